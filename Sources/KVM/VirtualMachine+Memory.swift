internal import CKVM

extension VirtualMachine {
  /// Puts host memory into a slot of the guest's physical address space.
  ///
  /// Both addresses and the size, in bytes, are whole pages.
  /// Nothing keeps the memory mapped: if it goes before the slot, the guest writes whatever takes its place.
  /// `setMemoryRegion(slot:flags:guestPhysicalAddress:memory:)` has no such trap.
  ///
  /// The corresponding request is `KVM_SET_USER_MEMORY_REGION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  @unsafe public func setMemoryRegion(
    slot: UInt32, flags: MemoryRegionFlags = [], guestPhysicalAddress: UInt64, size: Int,
    hostAddress: UnsafeMutableRawPointer
  ) throws(KVMError) {
    try setMemoryRegion(
      slot: slot, flags: flags, guestPhysicalAddress: guestPhysicalAddress, size: size,
      userspaceAddress: UInt64(UInt(bitPattern: hostAddress)), keeping: nil)
  }

  /// Puts the whole of a guest memory into a slot of the guest's physical address space.
  ///
  /// The VM and its vCPUs keep the memory for as long as the slot has it.
  ///
  /// The corresponding request is `KVM_SET_USER_MEMORY_REGION`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setMemoryRegion(
    slot: UInt32, flags: MemoryRegionFlags = [], guestPhysicalAddress: UInt64,
    memory: borrowing GuestMemory
  ) throws(KVMError) {
    try setMemoryRegion(
      slot: slot, flags: flags, guestPhysicalAddress: guestPhysicalAddress, size: memory.size,
      userspaceAddress: UInt64(UInt(bitPattern: memory.base)), keeping: memory.mapping)
  }

  /// Takes a slot's memory away from the guest.
  ///
  /// The corresponding request is `KVM_SET_USER_MEMORY_REGION` with size 0.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func deleteMemoryRegion(slot: UInt32) throws(KVMError) {
    try setMemoryRegion(
      slot: slot, flags: [], guestPhysicalAddress: 0, size: 0, userspaceAddress: 0, keeping: nil)
  }

  private func setMemoryRegion(
    slot: UInt32, flags: MemoryRegionFlags, guestPhysicalAddress: UInt64, size: Int,
    userspaceAddress: UInt64, keeping mapping: Mapping?
  ) throws(KVMError) {
    require(size >= 0, "a memory region cannot have \(size) bytes")
    var region = kvm_userspace_memory_region()
    region.slot = slot
    region.flags = flags.rawValue
    region.guest_phys_addr = guestPhysicalAddress
    region.memory_size = UInt64(size)
    region.userspace_addr = userspaceAddress
    let result = slots.withLock { slots in
      let result = ckvm_set_user_memory_region(descriptor.raw, &region)
      if result >= 0 { slots[slot] = mapping }
      return result
    }
    try check("KVM_SET_USER_MEMORY_REGION", result)
  }

  /// Which pages of a slot were written since the last look: one value per page of 4 KiB.
  ///
  /// `pageCount` is the slot's whole size in pages; pages beyond the slot's end read as clean.
  ///
  /// The corresponding request is `KVM_GET_DIRTY_LOG`, which also clears the log, except where
  /// `Capability.manualDirtyLogProtect` is enabled.
  /// - Throws: `KVMError` naming the request, with `errno`; `EFAULT` where the slot has more pages.
  public func dirtyLog(slot: UInt32, pageCount: Int) throws(KVMError) -> [Bool] {
    try DirtyBitmap(pageCount: pageCount).fetch(from: descriptor, slot: slot)
  }

  /// Takes pages out of a slot's log and watches them again.
  ///
  /// `pages` has one value for each page of 4 KiB of the whole slot. This is for VMs with
  /// `Capability.manualDirtyLogProtect`: on others the log is clear once it was fetched.
  ///
  /// The corresponding request is `KVM_CLEAR_DIRTY_LOG`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` where the slot has fewer pages, `ENOENT` where it
  ///   has no log.
  public func clearDirtyLog(slot: UInt32, pages: [Bool]) throws(KVMError) {
    try DirtyBitmap(pageCount: pages.count).clear(pages, from: descriptor, slot: slot)
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
