internal import CKVM

extension VirtualMachine {
  /// The VM's clock as the kernel tells it: nanoseconds, and what it is based on.
  ///
  /// The corresponding request is `KVM_GET_CLOCK`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func clock() throws(KVMError) -> ClockData {
    var data = kvm_clock_data()
    try check("KVM_GET_CLOCK", ckvm_get_clock(descriptor.raw, &data))
    return ClockData(data)
  }

  /// Sets the VM's clock, in nanoseconds; with `.realtime` it is moved on by the time since then.
  ///
  /// The corresponding request is `KVM_SET_CLOCK`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setClock(_ clock: ClockData) throws(KVMError) {
    var data = clock.kernelData
    try check("KVM_SET_CLOCK", ckvm_set_clock(descriptor.raw, &data))
  }

  /// The TSC frequency that new vCPUs of this VM get, in kHz; needs `KVM_CAP_VM_TSC_CONTROL`.
  ///
  /// The corresponding request is `KVM_GET_TSC_KHZ`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func tscKHz() throws(KVMError) -> UInt32 {
    UInt32(try check("KVM_GET_TSC_KHZ", ckvm_get_tsc_khz(descriptor.raw, 0)))
  }

  /// Sets the TSC frequency that new vCPUs of this VM get, in kHz; needs `KVM_CAP_VM_TSC_CONTROL`.
  ///
  /// The corresponding request is `KVM_SET_TSC_KHZ`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setTSCKHz(_ frequency: UInt32) throws(KVMError) {
    try check("KVM_SET_TSC_KHZ", ckvm_set_tsc_khz(descriptor.raw, UInt(frequency)))
  }
}
