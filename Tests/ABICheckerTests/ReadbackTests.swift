import Testing

@testable import ABIChecker

@Suite struct ReadbackTests {
  static let rule = "MSR-READBACK"
  static let both = [MSR.systemTimeOld, MSR.systemTime]

  static func good() -> HistoryBuilder {
    var host = HistoryBuilder(.readback)
    host.machine(0, 1)
    for id in [0, 1] {
      for value: UInt64 in [0x10001, 0xffff_ffff_ffff_f001, 3, 0] {
        host.run(
          id, .write(value == 3 ? both[0] : both[1], value), .readMSR(both[0]), .readMSR(both[1]))
        for msr in both { host.hostReadMSR(id, msr) }
      }
    }
    return host
  }

  /// A good history and one more event on vCPU 1, which wrote 0x1234567800000001 last.
  static func then(_ action: Action, by actor: Actor) -> History {
    var host = good()
    host.run(1, .write(MSR.systemTimeOld, 0x1234_5678_0000_0001))
    host.bracketed(actor) { _ in [action] }
    return host.history
  }

  @Test func whatWasWrittenIsReadBack() throws {
    try expectHolds(Self.rule, Self.good().history)
  }

  @Test(arguments: [Hex(0x1234_5678_0000_0000), 1, 0x5678_0000_0001, 0])
  func anotherValueIsBroken(value: Hex) throws {
    for msr in Self.both.map({ Hex($0) }) {
      try expectBroken(
        Self.rule, Self.then(.readMSR(msr: msr, value: value, fault: nil), by: .vcpu(1)),
        "0x1234567800000001", "vcpu1", "\(value) read by the guest through \(msr)")
      try expectBroken(
        Self.rule, Self.then(.hostReadMSR(vcpu: 1, msr: msr, value: value), by: .host),
        "0x1234567800000001", "\(value) read by the host through \(msr)")
    }
  }

  @Test func theOtherVCPUsValueIsItsOwn() throws {
    try expectHolds(
      Self.rule, Self.then(.readMSR(msr: 0x12, value: 0, fault: nil), by: .vcpu(0)))
    try expectBroken(
      Self.rule,
      Self.then(.readMSR(msr: 0x12, value: 0x1234_5678_0000_0001, fault: nil), by: .vcpu(0)),
      "0x0, the last value written on vcpu0")
  }

  @Test func aFaultIsBroken() throws {
    let fault = Fault(vector: 13, errorCode: 0, address: 0x7000)
    try expectBroken(
      Self.rule,
      Self.then(
        .wroteMSR(msr: 0x4b56_4d01, value: 0xffff_ffff_ffff_f001, fault: fault), by: .vcpu(0)),
      "0xfffffffffffff001 to 0x4b564d01", "vector 13")
    try expectBroken(
      Self.rule, Self.then(.readMSR(msr: 0x12, value: 0, fault: fault), by: .vcpu(0)),
      "0x12", "vector 13")
  }

  @Test func whatTheHostWritesIsReadBack() throws {
    try expectHolds(
      Self.rule,
      Self.then(.hostWroteMSR(vcpu: 1, msr: 0x12, value: 0x1234_5678_0000_0001), by: .host))
    var host = Self.good()
    host.host(.hostWroteMSR(vcpu: 0, msr: 0x12, value: 0x70001))
    host.hostReadMSR(0, MSR.systemTime)
    try expectBroken(Self.rule, host.history, "0x70001", "0x0 read by the host")
  }

  @Test func otherMSRsAndNewMachinesAreNobodysBusiness() throws {
    let others: [(Action, Actor)] = [
      (.readMSR(msr: 0x10, value: 99, fault: nil), .vcpu(1)),
      (.wroteMSR(msr: 0x4b56_4d00, value: 5, fault: nil), .vcpu(1)),
      (.hostReadMSR(vcpu: 1, msr: 0x4b56_4d02, value: 9), .host),
    ]
    for (action, actor) in others { try expectHolds(Self.rule, Self.then(action, by: actor)) }
    var host = Self.good()
    host.run(0, .write(MSR.systemTime, 0x10001))
    host.replug(0)
    host.hostReadMSR(0, MSR.systemTime)
    host.run(1, .write(MSR.systemTime, 0x10001))
    host.machine(0, 1)
    host.hostReadMSR(1, MSR.systemTime)
    try expectHolds(Self.rule, host.history)
  }

  @Test func oneMSROrOneReaderIsNotEnough() throws {
    for keep in [Self.both, [MSR.systemTime]] {
      var host = HistoryBuilder(.readback)
      host.machine(0)
      for value in 0..<9 as Range<UInt64> {
        host.run(0, .write(MSR.systemTime, value))
        for msr in keep { host.run(0, .readMSR(msr)) }
        if keep.count == 1 { host.hostReadMSR(0, MSR.systemTime) }
      }
      try expectNotTested(Self.rule, host.history, "guest 0x4b564d01")
    }
  }
}
