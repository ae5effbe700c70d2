import PVClock
import Testing

@testable import ABIChecker

@Suite struct RestoreOrderTests {
  static let first = "TSC-FIRST-WRITE-KEPT"
  static let setClock = "SETCLOCK-BEFORE-VCPUS"
  static let byOffset = "RESTORE-BY-OFFSET"
  static let order = "RESTORE-ANY-ORDER"
  static let twice = "RESTORE-TWICE"

  static func history(
    _ scenario: ScenarioName, _ change: (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(scenario)
    change(&host)
    return host.history
  }

  static func firstWrites(
    kernel: String = "6.18.15-amd64", drops: @escaping (Int) -> Bool
  ) -> History {
    var history = history(.firstTSCWrite) { Script.firstTSCWrite(&$0, drops: drops) }
    history.header.host.kernel = kernel
    return history
  }

  /// Linux before 6.7: a value near to the TSC from creation is dropped, one far from it is kept.
  @Test func aFirstValueThatIsDroppedIsBroken() throws {
    let history = Self.firstWrites { $0 < 3 }
    try expectBroken(
      Self.first, history, "vcpu0's TSC to go on from 0x", "vcpu1's TSC to go on from 0x",
      "from 0x3e8, the first value", "cycles from where the TSC was", "cycles from that")
  }

  /// Only what those kernels do is excused: the TSC goes on as it was.
  @Test func itIsKnownOfKernelsBefore6_7() throws {
    let rule = try #require(Rule.named(Self.first))
    func isKnown(_ kernel: String, _ history: History) -> Bool {
      rule.verdict(on: [Timeline(history)]).known != nil
    }
    let old = Self.firstWrites(kernel: "6.1.0-53-amd64") { $0 < 3 }
    #expect(isKnown("6.1", old))
    #expect(!isKnown("6.18", Self.firstWrites { $0 < 3 }))
    var other = HistoryBuilder(.firstTSCWrite)
    Script.firstTSCWrite(&other)
    other.machine(0)
    other.hostReadTSC(0)
    other.hostWriteTSC(0, 1 << 50)
    other.vcpus[0]?.tscOffset &+= 12_345_678
    other.hostReadTSC(0)
    other.header.host.kernel = "6.1.0-53-amd64"
    #expect(rule.judge(other.history).isBroken && !isKnown("6.1", other.history))
  }

  @Test func writesThatAreIgnoredProveNothing() throws {
    try expectNotTested(
      Self.first, Self.firstWrites { _ in true }, "to vcpu0's IA32_TSC, and the TSC did not follow")
  }

  @Test func aFarValueAloneIsNotEnough() throws {
    let history = Self.history(.firstTSCWrite) { host in
      for _ in 0..<6 {
        host.machine(0)
        host.hostReadTSC(0)
        host.hostWriteTSC(0, 1 << 50)
        host.hostReadTSC(0)
      }
    }
    try expectNotTested(Self.first, history, "saw 0 different vCPUs")
  }

  @Test func aSettingWithoutAVCPUThatIsLostIsBroken() throws {
    let history = Self.history(.clockBeforeVCPUs) { Script.clockBeforeVCPUs(&$0, sets: false) }
    try expectBroken(
      Self.setClock, history, "KVM_GET_CLOCK", "less the value set (3600000000000 ns)",
      "vcpu2's reading", "which came before the first vCPU", "(3600.0 s) too low")
  }

  /// Only with vCPUs.
  @Test func aSettingWithAVCPUIsNotTested() throws {
    try expectNotTested(Self.setClock, Script.history(of: .setClock), "saw 0 values after")
  }

  /// In one order alone the clock starts anew.
  @Test(arguments: 0..<6) func oneOrderThatLosesTheClockIsBroken(number: Int) throws {
    let history = Self.history(.restoreOrder) { host in
      Script.restoreOrder(&host) { if $1 == number { $0.stepClock(by: -1_000_000_000) } }
    }
    let names = [
      "clock records TSCs", "clock TSCs records", "records clock TSCs", "records TSCs clock",
      "TSCs clock records", "TSCs records clock",
    ]
    try expectBroken(
      Self.order, history, "restored were \(names[number])", "vcpu1's reading",
      "(1000.0 ms) too low")
    try expectBroken(Self.twice, history, "the clock saved in event", "(1000.0 ms) too low")
  }

  @Test(arguments: 6..<12) func oneOrderByOffsetThatLosesTheClockIsBroken(number: Int) throws {
    let history = Self.history(.restoreOrder) { host in
      Script.restoreOrder(&host) { if $1 == number { $0.stepClock(by: -1_000_000_000) } }
    }
    try expectBroken(Self.byOffset, history, "vcpu1's reading", "(1000.0 ms) too low")
    try expectHolds(Self.order, history)
  }

  @Test func aVMRestoredByOffsetWithoutTheMasterClockIsBroken() throws {
    var history = Script.history(of: .restoreOrder)
    var machines = 0
    for at in history.events.indices {
      if history.events[at].action == .vmCreated { machines += 1 }
      // The first was saved, and six were restored by IA32_TSC.
      guard machines == 8, case .page(let vcpu, let address, var page) = history.events[at].action
      else { continue }
      page.flags.remove(.tscStable)
      history.events[at].action = .page(vcpu: vcpu, address: address, page: page)
    }
    try expectBroken(Self.byOffset, history, "all vCPUs got one TSC offset")
  }

  /// The second of two that are alive.
  @Test func oneOfTwoSideBySideThatLosesTheClockIsBroken() throws {
    let history = Self.history(.restoreOrder) { host in
      Script.restoreOrder(&host) { if $1 == 13 { $0.stepClock(by: -1_000_000_000) } }
    }
    try expectBroken(Self.twice, history, "the clock saved in event", "(1000.0 ms) too low")
  }

  @Test func anOrderThatWasNotTriedIsNotTested() throws {
    let history = Self.history(.restoreOrder) { host in
      let saved = host.saveRunningMachine()
      for order in Script.restoreOrders.dropLast() {
        host.restore(saved, in: order)
        host.readAndSettle()
      }
    }
    try expectNotTested(Self.order, history, "orders: did not see TSCs records clock")
  }

  @Test func withoutALateCPUIDTheOrderIsNotTested() throws {
    var history = Script.history(of: .restoreOrder)
    history.events.removeAll {
      if case .featuresSet(_, 0x0100_0009) = $0.action { true } else { false }
    }
    try expectNotTested(Self.order, history, "KVM_SET_CPUID2: did not see after the records")
  }

  @Test func writesOfTSCsThatAreIgnoredLeaveTheOrderUntested() throws {
    let history = Self.history(.restoreOrder) { host in
      let saved = host.saveRunningMachine()
      for order in Script.restoreOrders {
        host.restore(saved, in: order) { host, id in host.vcpus[id]?.tscOffset = Script.origin }
        host.readAndSettle()
      }
    }
    try expectNotTested(Self.order, history, "to vcpu0's IA32_TSC, and its TSC is -")
    try expectNotTested(Self.byOffset, history, "KVM_VCPU_TSC_OFFSET: the host does not have it")
    try expectNotTested(Self.twice, history, "saw 6 different VMs of one save")
  }

  @Test func oneVMOfASaveIsNotEnough() throws {
    let history = Self.history(.restoreOrder) { host in
      let saved = host.saveRunningMachine()
      host.restore(saved)
      for _ in 0..<6 { host.readAndSettle() }
    }
    try expectNotTested(Self.twice, history, "saw 1 different VMs of one save")
  }
}
