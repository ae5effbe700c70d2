internal import CKVM

extension VirtualMachine {
  /// Puts host memory into a slot of the guest's physical address space.
  ///
  /// Both addresses and the size, in bytes, are whole pages.
  /// The memory must stay mapped for as long as the slot is set.
  ///
  /// The corresponding request is `KVM_SET_USER_MEMORY_REGION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setMemoryRegion(
    slot: UInt32, flags: MemoryRegionFlags = [], guestPhysicalAddress: UInt64, size: Int,
    hostAddress: UnsafeMutableRawPointer
  ) throws(KVMError) {
    try setMemoryRegion(
      slot: slot, flags: flags, guestPhysicalAddress: guestPhysicalAddress, size: size,
      userspaceAddress: UInt64(UInt(bitPattern: hostAddress)))
  }

  /// Puts the whole of a guest memory into a slot of the guest's physical address space.
  ///
  /// The memory must outlive the slot.
  ///
  /// The corresponding request is `KVM_SET_USER_MEMORY_REGION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setMemoryRegion(
    slot: UInt32, flags: MemoryRegionFlags = [], guestPhysicalAddress: UInt64,
    memory: borrowing GuestMemory
  ) throws(KVMError) {
    try setMemoryRegion(
      slot: slot, flags: flags, guestPhysicalAddress: guestPhysicalAddress, size: memory.size,
      hostAddress: memory.base)
  }

  /// Takes a slot's memory away from the guest.
  ///
  /// The corresponding request is `KVM_SET_USER_MEMORY_REGION` with size 0.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func deleteMemoryRegion(slot: UInt32) throws(KVMError) {
    try setMemoryRegion(
      slot: slot, flags: [], guestPhysicalAddress: 0, size: 0, userspaceAddress: 0)
  }

  private func setMemoryRegion(
    slot: UInt32, flags: MemoryRegionFlags, guestPhysicalAddress: UInt64, size: Int,
    userspaceAddress: UInt64
  ) throws(KVMError) {
    require(size >= 0, "a memory region cannot have \(size) bytes")
    var region = kvm_userspace_memory_region()
    region.slot = slot
    region.flags = flags.rawValue
    region.guest_phys_addr = guestPhysicalAddress
    region.memory_size = UInt64(size)
    region.userspace_addr = userspaceAddress
    try check("KVM_SET_USER_MEMORY_REGION", ckvm_set_user_memory_region(descriptor.raw, &region))
  }

  /// Which pages of a slot were written since the last look: one value per page of 4 KiB.
  ///
  /// `pageCount` is the slot's whole size in pages; pages beyond the slot's end read as clean.
  ///
  /// The corresponding request is `KVM_GET_DIRTY_LOG`, which also clears the log.
  /// - Throws: `KVMError` naming the request, with `errno`; `EFAULT` where the slot has more pages.
  public func dirtyLog(slot: UInt32, pageCount: Int) throws(KVMError) -> [Bool] {
    try DirtyBitmap(pageCount: pageCount).fetch(from: descriptor, slot: slot)
  }

  /// Watches the pages again that were taken from the vCPUs' dirty rings; how many entries became free.
  ///
  /// A page's contents are to be read only after this: a write before it may be named in no ring.
  ///
  /// The corresponding request is `KVM_RESET_DIRTY_RINGS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  @discardableResult
  public func resetDirtyRings() throws(KVMError) -> Int32 {
    try check("KVM_RESET_DIRTY_RINGS", ckvm_reset_dirty_rings(descriptor.raw, 0))
  }
}
