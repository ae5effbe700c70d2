internal import ABIChecker
internal import KVM
internal import VMBuilder

// What moves a vCPU's TSC.

extension Stage {
  /// Has the record made anew and its TSC offset known, so that what comes next starts from a sound state.
  func renew(_ vcpu: Int) throws {
    try register(vcpu)
    try noteTSC(vcpu)
    try read(vcpu)
  }

  /// A write of an MSR by the guest, and a reading of its record without an exit between.
  @discardableResult
  func writeMSRAndRead(_ vcpu: Int, _ msr: UInt32, _ value: UInt64) throws -> GuestFault? {
    let address = records[vcpu]!
    let reply = try machine.ask(vcpu, .writeMSR(msr, value, thenReadClockAt: address))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .wroteMSR(msr: Hex(msr), value: Hex(value), fault: Fault(reply.value.fault)))
    if reply.value.fault == nil { recordReading(vcpu, 0, address, reply) }
    return reply.value.fault
  }

  func hasTSCOffset(_ vcpu: Int) throws -> Bool {
    try machine.withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.hasTSCOffset() }.value
  }

  /// Sets the offset; whether it reads back.
  @discardableResult
  func setTSCOffset(_ vcpu: Int, _ cycles: UInt64) throws -> Bool {
    let set = try machine.withVCPU(vcpu) { vcpu throws(KVMError) in try vcpu.setTSCOffset(cycles) }
    record(.host, set.began, set.ended, .setTSCOffset(vcpu: vcpu, cycles: cycles))
    return try noteTSCOffset(vcpu) == cycles
  }

  @discardableResult
  func noteTSCFrequency(_ vcpu: Int) throws -> UInt32 {
    let frequency = try machine.tscKHz(of: vcpu)
    record(.host, frequency.began, frequency.ended, .tscKHz(vcpu: vcpu, kHz: frequency.value))
    return frequency.value
  }

  /// Sets a vCPU's frequency and gets it; whether KVM accepted it.
  @discardableResult
  func setTSCFrequency(_ vcpu: Int, _ kHz: UInt32) throws -> Bool {
    let set = try machine.setTSCKHz(kHz, of: vcpu)
    let error = set.value.map { Errno($0) }
    record(.host, set.began, set.ended, .setTSCKHz(vcpu: vcpu, kHz: kHz, error: error))
    try noteTSCFrequency(vcpu)
    return error == nil
  }

  /// Sets the whole VM's frequency; KVM may refuse.
  func setTSCFrequencyOfVM(_ kHz: UInt32) {
    _ = note(
      { .setTSCKHz(vcpu: nil, kHz: kHz, error: $0) },
      of: { () -> Errno? in
        do throws(KVMError) {
          try machine.setTSCKHz(kHz)
          return nil
        } catch {
          return Errno(error)
        }
      })
  }
}
