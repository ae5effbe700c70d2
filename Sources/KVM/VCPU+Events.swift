public import CKVM

/// Pending and injected exceptions, interrupts, NMIs and SMIs.
public typealias VCPUEvents = kvm_vcpu_events

extension VCPU {
  /// Whether the vCPU is runnable, halted or waiting to be started.
  ///
  /// The corresponding request is `KVM_GET_MP_STATE`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func mpState() throws(KVMError) -> MPState {
    var state = kvm_mp_state()
    try check("KVM_GET_MP_STATE", ckvm_get_mp_state(descriptor.raw, &state))
    return MPState(rawValue: state.mp_state)
  }

  /// Makes the vCPU runnable, halted or waiting to be started.
  ///
  /// The corresponding request is `KVM_SET_MP_STATE`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setMPState(_ state: MPState) throws(KVMError) {
    var state = kvm_mp_state(mp_state: state.rawValue)
    try check("KVM_SET_MP_STATE", ckvm_set_mp_state(descriptor.raw, &state))
  }

  /// Pending and injected exceptions, interrupts, NMIs and SMIs.
  ///
  /// The corresponding request is `KVM_GET_VCPU_EVENTS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func events() throws(KVMError) -> VCPUEvents {
    var events = kvm_vcpu_events()
    try check("KVM_GET_VCPU_EVENTS", ckvm_get_vcpu_events(descriptor.raw, &events))
    return events
  }

  /// Sets pending and injected exceptions, interrupts, NMIs and SMIs.
  ///
  /// The corresponding request is `KVM_SET_VCPU_EVENTS`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setEvents(_ events: VCPUEvents) throws(KVMError) {
    var events = events
    try check("KVM_SET_VCPU_EVENTS", ckvm_set_vcpu_events(descriptor.raw, &events))
  }

  /// Sets which signals (1...64) are blocked in a run; `nil` keeps the thread's own mask.
  ///
  /// The corresponding request is `KVM_SET_SIGNAL_MASK`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setSignalMask(_ blocked: Set<Int32>?) throws(KVMError) {
    guard let blocked else {
      try check("KVM_SET_SIGNAL_MASK", ckvm_clear_signal_mask(descriptor.raw))
      return
    }
    let mask = FlexibleArray(signals: blocked)
    let result = mask.call { ckvm_set_signal_mask(descriptor.raw, $0) }
    try check("KVM_SET_SIGNAL_MASK", result)
  }

  /// The registers of the local APIC; needs the in-kernel interrupt controllers.
  ///
  /// The corresponding request is `KVM_GET_LAPIC`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func lapic() throws(KVMError) -> LocalAPIC {
    var state = kvm_lapic_state()
    try check("KVM_GET_LAPIC", ckvm_get_lapic(descriptor.raw, &state))
    return LocalAPIC(state)
  }

  /// Sets the registers of the local APIC; needs the in-kernel interrupt controllers.
  ///
  /// The corresponding request is `KVM_SET_LAPIC`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setLAPIC(_ apic: LocalAPIC) throws(KVMError) {
    var state = apic.kernelState
    try check("KVM_SET_LAPIC", ckvm_set_lapic(descriptor.raw, &state))
  }

  /// Queues an external interrupt; without in-kernel interrupt controllers only.
  ///
  /// The corresponding request is `KVM_INTERRUPT`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func injectInterrupt(vector: UInt8) throws(KVMError) {
    var request = kvm_interrupt(irq: UInt32(vector))
    try check("KVM_INTERRUPT", ckvm_interrupt(descriptor.raw, &request))
  }

  /// Queues a non-maskable interrupt.
  ///
  /// The corresponding request is `KVM_NMI`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func injectNMI() throws(KVMError) {
    try check("KVM_NMI", ckvm_nmi(descriptor.raw, 0))
  }

  /// Sets what ends a run with `.debug`; `debugRegisters` are DR0 to DR7, missing ones are 0.
  ///
  /// The corresponding request is `KVM_SET_GUEST_DEBUG`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func setGuestDebug(
    _ control: GuestDebugControl, debugRegisters: [UInt64] = []
  ) throws(KVMError) {
    require(debugRegisters.count <= 8, "there are 8 debug registers")
    let dr = debugRegisters + [UInt64](repeating: 0, count: 8 - debugRegisters.count)
    var request = kvm_guest_debug()
    request.control = control.rawValue
    request.arch.debugreg = (dr[0], dr[1], dr[2], dr[3], dr[4], dr[5], dr[6], dr[7])
    try check("KVM_SET_GUEST_DEBUG", ckvm_set_guest_debug(descriptor.raw, &request))
  }
}
