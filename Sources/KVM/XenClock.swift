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
}

extension VCPU {
  /// Gives the vCPU a Xen clock record at a guest-physical address: Xen's `vcpu_time_info`.
  ///
  /// The corresponding request is `KVM_XEN_VCPU_SET_ATTR`, with `KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setXenTimeInfo(at address: UInt64) throws(KVMError) {
    var attribute = kvm_xen_vcpu_attr()
    attribute.type = UInt16(KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO)
    attribute.u.gpa = address
    try checkZero("KVM_XEN_VCPU_SET_ATTR", ckvm_xen_vcpu_set_attr(descriptor.raw, &attribute))
  }
}
