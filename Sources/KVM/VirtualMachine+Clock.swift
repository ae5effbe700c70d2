internal import CKVM

extension VirtualMachine {
  /// The VM's clock as the kernel tells it: nanoseconds, and what it is based on.
  ///
  /// The corresponding request is `KVM_GET_CLOCK`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func clock() throws(KVMError) -> ClockData {
    var data = kvm_clock_data()
    try checkZero("KVM_GET_CLOCK", ckvm_get_clock(descriptor.raw, &data))
    return ClockData(data)
  }

  /// The same, with the five reserved words of the kernel's structure, each byte of which was `byte` before.
  ///
  /// The corresponding request is `KVM_GET_CLOCK`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func clock(
    over byte: UInt8
  ) throws(KVMError) -> (clock: ClockData, reserved: [UInt32]) {
    let word = UInt32(byte) * 0x0101_0101
    let wide = UInt64(word) << 32 | UInt64(word)
    var data = kvm_clock_data()
    (data.clock, data.flags, data.realtime, data.host_tsc) = (wide, word, wide, wide)
    (data.pad0, data.pad) = (word, (word, word, word, word))
    try checkZero("KVM_GET_CLOCK", ckvm_get_clock(descriptor.raw, &data))
    return (
      ClockData(data), [data.pad0, data.pad.0, data.pad.1, data.pad.2, data.pad.3]
    )
  }

  /// Sets the VM's clock, in nanoseconds; with `.realtime` it is moved on by the time since then.
  ///
  /// The corresponding request is `KVM_SET_CLOCK`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setClock(_ clock: ClockData) throws(KVMError) {
    var data = clock.kernelData
    try checkZero("KVM_SET_CLOCK", ckvm_set_clock(descriptor.raw, &data))
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
    try checkZero("KVM_SET_TSC_KHZ", ckvm_set_tsc_khz(descriptor.raw, UInt(frequency)))
  }
}
