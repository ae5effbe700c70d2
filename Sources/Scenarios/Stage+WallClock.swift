internal import ABIChecker
internal import VMBuilder

extension Stage {
  /// Writes a wall clock MSR and reads the vCPU's clock record, in one entry between two readings of CLOCK_REALTIME.
  func writeWallClock(_ vcpu: Int, _ msr: UInt32 = MSR.wallClock, at address: UInt64) throws {
    try readHostClock("CLOCK_REALTIME")
    let clock = records[vcpu]!
    let reply = try machine.ask(vcpu, .writeMSR(msr, address, thenReadClockAt: clock))
    record(
      .vcpu(vcpu), reply.began, reply.ended,
      .wroteMSR(msr: Hex(msr), value: Hex(address), fault: Fault(reply.value.fault)))
    if reply.value.fault == nil { recordReading(vcpu, 0, clock, reply) }
    try readHostClock("CLOCK_REALTIME")
  }

  /// An address for a wall clock record on a page that holds no clock record, `past` a multiple of 64.
  func placeWallClock(_ vcpu: Int, past: UInt64 = 0) -> UInt64 {
    Layout.clockPage(vcpu, second: true) + UInt64.random(in: 2...60, using: &random) * 64 + past
  }

  /// Fills a wall clock record to be, and 64 bytes on both sides, with 0xa5.
  func fillAround(_ address: UInt64) { fillMemory(address - 64, count: 140) }

  func fillMemory(_ start: UInt64, count: Int) {
    note(
      { .filled(address: Hex(start), count: count, byte: 0xa5) },
      of: { machine.memory.fill(0xa5, at: Int(start), count: count) })
  }

  /// Looks at a wall clock record with so many bytes on both sides.
  func lookAtWallClock(_ address: UInt64, around: Int = 64) {
    lookAtMemory(address - UInt64(around), count: 12 + 2 * around)
  }
}
