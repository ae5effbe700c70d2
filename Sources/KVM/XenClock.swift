internal import CKVM

extension VirtualMachine {
  /// Whether the Xen clocks of this VM leave out the flag that says that the TSC is stable.
  ///
  /// The corresponding request is `KVM_XEN_HVM_CONFIG`, with `KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` before Linux 6.8.
  public func setXenClockUnstable(_ isUnstable: Bool) throws(KVMError) {
    var config = kvm_xen_hvm_config()
    config.flags = isUnstable ? UInt32(KVM_XEN_HVM_CONFIG_PVCLOCK_TSC_UNSTABLE) : 0
    try checkZero("KVM_XEN_HVM_CONFIG", ckvm_xen_hvm_config(descriptor.raw, &config))
  }

  /// Makes a page of guest memory Xen's `shared_info`, in the layout of 64-bit guests or of 32-bit ones; KVM puts the wall
  /// clock there.
  ///
  /// The corresponding request is `KVM_XEN_HVM_SET_ATTR`, with `KVM_XEN_ATTR_TYPE_LONG_MODE`, then with
  /// `KVM_XEN_ATTR_TYPE_SHARED_INFO`.
  /// - Parameters:
  ///   - address: guest-physical, a multiple of 4096.
  ///   - is64Bit: whether the layout is that of 64-bit guests.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setXenSharedInfo(at address: UInt64, is64Bit: Bool) throws(KVMError) {
    precondition(address % 4096 == 0, "\(address) is not the address of a page")
    try setXenSharedInfo(KVM_XEN_ATTR_TYPE_SHARED_INFO, address / 4096, is64Bit)
  }

  /// Makes a page of this process's memory Xen's `shared_info`, wherever the guest has it.
  ///
  /// The VM and its vCPUs keep the memory. The corresponding request is `KVM_XEN_HVM_SET_ATTR`, with
  /// `KVM_XEN_ATTR_TYPE_LONG_MODE`, then with `KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA`.
  /// - Parameters:
  ///   - page: 4096 bytes, at an address that is a multiple of that.
  ///   - is64Bit: whether the layout is that of 64-bit guests.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` before Linux 6.9.
  public func setXenSharedInfo(at page: MemoryPiece, is64Bit: Bool) throws(KVMError) {
    precondition(page.address % 4096 == 0 && page.count == 4096, "this is not a page")
    slots.keep(page.mapping)
    try setXenSharedInfo(KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA, page.address, is64Bit)
  }

  /// - Parameter place: what `type` says: in the header of libc both are one union.
  private func setXenSharedInfo(
    _ type: Int32, _ place: UInt64, _ is64Bit: Bool
  ) throws(KVMError) {
    var attribute = kvm_xen_hvm_attr()
    attribute.type = UInt16(KVM_XEN_ATTR_TYPE_LONG_MODE)
    attribute.u.long_mode = is64Bit ? 1 : 0
    try checkZero("KVM_XEN_HVM_SET_ATTR", ckvm_xen_hvm_set_attr(descriptor.raw, &attribute))
    attribute.type = UInt16(type)
    attribute.u.shared_info.gfn = place
    try checkZero("KVM_XEN_HVM_SET_ATTR", ckvm_xen_hvm_set_attr(descriptor.raw, &attribute))
  }
}

extension VCPU {
  /// Gives the vCPU a Xen clock record at a guest-physical address: Xen's `vcpu_time_info`.
  ///
  /// The corresponding request is `KVM_XEN_VCPU_SET_ATTR`, with `KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setXenTimeInfo(at address: UInt64) throws(KVMError) {
    try setXenAttribute(KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, address)
  }

  /// Gives the vCPU Xen's `vcpu_info`, 64 bytes, at a guest-physical address; its clock record is at offset 32.
  ///
  /// The corresponding request is `KVM_XEN_VCPU_SET_ATTR`, with `KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setXenInfo(at address: UInt64) throws(KVMError) {
    try setXenAttribute(KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, address)
  }

  /// Makes 64 bytes of this process's memory the vCPU's `vcpu_info`, wherever the guest has them.
  ///
  /// The VM and its vCPUs keep the memory. The corresponding request is `KVM_XEN_VCPU_SET_ATTR`, with
  /// `KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` before Linux 6.9.
  public func setXenInfo(at piece: MemoryPiece) throws(KVMError) {
    precondition(piece.count == 64, "vcpu_info has 64 bytes, not \(piece.count)")
    slots.keep(piece.mapping)
    try setXenAttribute(KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA, piece.address)
  }

  private func setXenAttribute(_ type: Int32, _ address: UInt64) throws(KVMError) {
    var attribute = kvm_xen_vcpu_attr()
    attribute.type = UInt16(type)
    attribute.u.gpa = address
    try checkZero("KVM_XEN_VCPU_SET_ATTR", ckvm_xen_vcpu_set_attr(descriptor.raw, &attribute))
  }
}
