internal import CKVM
internal import Glibc

extension VCPU {
  /// Tells the guest, by a flag in its clock page, that it was stopped for a while.
  ///
  /// The corresponding request is `KVM_KVMCLOCK_CTRL`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EINVAL` without an enabled clock page.
  public func markGuestPaused() throws(KVMError) {
    try checkZero("KVM_KVMCLOCK_CTRL", ckvm_kvmclock_ctrl(descriptor.raw, 0))
  }

  /// The frequency of the guest's TSC, in kHz.
  ///
  /// The corresponding request is `KVM_GET_TSC_KHZ`.
  /// - Throws: `KVMError` naming the request, with `errno`; `EIO` where the host's TSC is unstable.
  public func tscKHz() throws(KVMError) -> UInt32 {
    UInt32(try check("KVM_GET_TSC_KHZ", ckvm_get_tsc_khz(descriptor.raw, 0)))
  }

  /// Sets the frequency of the guest's TSC, in kHz; 0 stands for the host's.
  ///
  /// The corresponding request is `KVM_SET_TSC_KHZ`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setTSCKHz(_ frequency: UInt32) throws(KVMError) {
    try checkZero("KVM_SET_TSC_KHZ", ckvm_set_tsc_khz(descriptor.raw, UInt(frequency)))
  }

  /// Whether the kernel claims to have the vCPU's TSC offset as an attribute.
  ///
  /// The corresponding request is `KVM_HAS_DEVICE_ATTR` for `KVM_VCPU_TSC_OFFSET`.
  /// - Throws: `KVMError` naming the request, with an `errno` that does not mean "no".
  public func hasTSCOffset() throws(KVMError) -> Bool {
    var unused: UInt64 = 0
    let result = withTSCOffsetAttribute(&unused) { ckvm_has_device_attr(descriptor.raw, &$0) }
    // ENXIO says that the attribute is missing, the others that the whole request is.
    if [-ENXIO, -EINVAL, -ENOTTY].contains(result) { return false }
    try checkZero("KVM_HAS_DEVICE_ATTR", result)
    return true
  }

  /// What the kernel adds to the host's TSC for this guest, in cycles, modulo 2^64.
  ///
  /// The corresponding request is `KVM_GET_DEVICE_ATTR` for `KVM_VCPU_TSC_OFFSET`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func tscOffset() throws(KVMError) -> UInt64 {
    var offset: UInt64 = 0
    let result = withTSCOffsetAttribute(&offset) { ckvm_get_device_attr(descriptor.raw, &$0) }
    try checkZero("KVM_GET_DEVICE_ATTR", result)
    return offset
  }

  /// Sets what the kernel adds to the host's TSC for this guest, in cycles, modulo 2^64.
  ///
  /// The corresponding request is `KVM_SET_DEVICE_ATTR` for `KVM_VCPU_TSC_OFFSET`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setTSCOffset(_ offset: UInt64) throws(KVMError) {
    var offset = offset
    let result = withTSCOffsetAttribute(&offset) { ckvm_set_device_attr(descriptor.raw, &$0) }
    try checkZero("KVM_SET_DEVICE_ATTR", result)
  }
}
