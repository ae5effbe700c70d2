import PVClock
import Testing

@testable import ABIChecker

@Suite struct ManyVCPUsTests {
  static let register = "MANY-VCPUS-REGISTER"
  static let order = "MANY-VCPUS-ORDER"
  static let setclock = "MANY-VCPUS-SETCLOCK"

  /// Each vCPU registers; the clock is set; each reads. `fault` acts after each step of a vCPU.
  static func many(
    _ count: Int, source: SimulatedTime.Source = .tsc, silent: Int? = nil,
    _ fault: (inout HistoryBuilder, Int) -> Void = { _, _ in }
  ) -> History {
    var host = HistoryBuilder(.many, source: source)
    host.createMachine()
    for id in 0..<count { host.createVCPU(id) }
    for id in 0..<count where id != silent {
      host.register(id)
      fault(&host, id)
    }
    host.setClock(10_800_000_000_000)
    for id in 0..<count where id != silent {
      host.read(id)
      fault(&host, id)
    }
    return host.history
  }

  @Test(arguments: [1, 2, 65, 300], [SimulatedTime.Source.tsc, .hpet])
  func anyNumberHolds(count: Int, source: SimulatedTime.Source) throws {
    let history = Self.many(count, source: source)
    try expectHolds(Self.register, history)
    try expectHolds(Self.setclock, history)
    if count > 1 { try expectHolds(Self.order, history) }
  }

  @Test func oneVCPUHasNoOrder() throws {
    try expectNotTested(Self.order, Self.many(1), "did not see vcpu0")
  }

  @Test func theEvidenceCountsTheVCPUs() throws {
    for id in [Self.register, Self.order, Self.setclock] {
      guard case .holds(let evidence, _) = try judge(id, Self.many(65)) else {
        Issue.record("\(id) does not hold")
        continue
      }
      #expect(evidence.contains("65 vCPUs"))
    }
  }

  @Test func aVCPUThatIsMissingIsNotTested() throws {
    for id in [Self.register, Self.order, Self.setclock] {
      try expectNotTested(id, Self.many(65, silent: 64), "did not see vcpu64")
    }
  }

  @Test func aRecordThatStaysEmptyIsBroken() throws {
    let history = Self.many(66) { host, id in
      if id == 64 { host.amend { $0 = ClockPage() } }
    }
    try expectBroken(Self.register, history, "vcpu64 to read", "version 0", "tsc_to_system_mul 0x0")
  }

  @Test func anOlderPairOnOneVCPUIsBroken() throws {
    let history = Self.many(66) { host, id in
      if id == 64 { host.amend { $0.systemTime -= 20_000 } }
    }
    try expectBroken(
      Self.order, history, "vcpu64's reading at or above 1080000", "ns, vcpu63's reading before it")
  }

  @Test func aVCPUThatKeepsTheOldClockIsBroken() throws {
    var host = HistoryBuilder(.many)
    host.createMachine()
    for id in 0..<65 { host.createVCPU(id) }
    for id in 0..<65 { host.register(id) }
    host.setClock(10_800_000_000_000)
    host.vcpus[64]?.wantsRecord = false
    for id in 0..<65 { host.read(id) }
    try expectBroken(
      Self.setclock, host.history, "vcpu64's reading less the value set (10800000000000 ns)",
      "too low")
  }
}

extension ManyVCPUsTests {
  /// Not only the first reading after the setting is judged.
  @Test func aClockThatGoesBackToTheOldOneIsBroken() throws {
    var host = HistoryBuilder(.many)
    host.createMachine()
    for id in 0..<3 { host.createVCPU(id) }
    for id in 0..<3 { host.register(id) }
    host.setClock(10_800_000_000_000)
    for id in 0..<3 { host.read(id) }
    host.read(1)
    host.amend { $0.systemTime -= 10_800_000_000_000 }
    try expectBroken(Self.setclock, host.history, "vcpu1's reading less the value set")
  }

  /// Two settings, each seen on one vCPU only: none of them reached all.
  @Test func oneSettingHasToReachAll() throws {
    var host = HistoryBuilder(.many)
    host.createMachine()
    for id in 0..<2 { host.createVCPU(id) }
    for id in 0..<2 { host.register(id) }
    for id in 0..<2 {
      host.setClock(10_800_000_000_000)
      host.read(id)
    }
    try expectNotTested(Self.setclock, host.history)
  }
}
