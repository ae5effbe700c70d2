import Testing

@testable import ABIChecker

@Suite struct HyperVTests {
  static let count = "HYPERV-COUNT-IS-KVMCLOCK"
  static let page = "HYPERV-PAGE-IS-KVMCLOCK"
  static let follows = "HYPERV-FOLLOWS-SETCLOCK"
  static let noStep = "HYPERV-NO-STEP-BACK"
  static let sequence = "HYPERV-SEQUENCE"

  static func history(_ source: SimulatedTime.Source = .tsc) -> History {
    Script.history(of: .hyperV, source: source)
  }

  @Test func oneClockUnderThreeNamesHolds() throws {
    for id in [Self.count, Self.page, Self.follows, Self.noStep, Self.sequence] {
      try expectHolds(id, Self.history())
    }
  }

  @Test(arguments: [1000, -1000] as [Int64])
  func aCounterThatIsNotKvmclockIsBroken(units: Int64) throws {
    let history = Self.history().changed {
      $0.changeCount { $0 &+= UInt64(bitPattern: units) }
    }
    try expectBroken(
      Self.count, history, "HV_X64_MSR_TIME_REF_COUNT", "too \(units > 0 ? "high" : "low")")
  }

  /// Three units are as near as the roundings leave it to be told.
  @Test(arguments: [4, -4] as [Int64])
  func aPageThatIsNotKvmclockIsBroken(units: Int64) throws {
    let history = Self.history().changed {
      $0.changeReferencePage { $1 &+= UInt64(bitPattern: units) }
    }
    try expectBroken(
      Self.page, history, "less kvmclock", "too \(units > 0 ? "high" : "low")")
  }

  @Test func aPageOrACounterThatStaysBehindASettingIsBroken() throws {
    try expectBroken(
      Self.follows,
      Self.history().changedSinceSetClock { $0.changeCount { $0 -= 10_000_000 } },
      "HV_X64_MSR_TIME_REF_COUNT times 100 ns less the value set", "1000.0 ms) too low")
    try expectBroken(
      Self.follows,
      Self.history().changedSinceSetClock { $0.changeReferencePage { $1 &-= 10_000_000 } },
      "the reference TSC page's time less the value set", "1000.0 ms) too low")
  }

  @Test func aStepBackIsBroken() throws {
    var last: UInt64 = 0
    let stuck = Self.history().changed {
      $0.changeCount { (last, $0) = ($0, last > 0 && last < $0 ? last - 1 : $0) }
    }
    try expectBroken(Self.noStep, stuck, "HV_X64_MSR_TIME_REF_COUNT times 100 ns at or above")
    var looks: UInt64 = 0
    let sinking = Self.history().changed {
      $0.changeReferencePage {
        $1 &-= looks / 2 * 1000
        looks += 1
      }
    }
    try expectBroken(Self.noStep, sinking, "the reference TSC page's time at or above")
  }

  @Test func anOldSequenceForANewPageIsBroken() throws {
    let history = Self.history().changed {
      $0.changeReferencePage { sequence, _ in sequence = min(sequence, 1) }
    }
    try expectBroken(Self.sequence, history, "another TscSequence than 1", "TscSequence 1")
  }

  @Test func aPageThatIsValidWithoutTheMasterClockIsBroken() throws {
    let history = Self.history().changed {
      $0.changeReferencePage { sequence, _ in sequence = max(sequence, 1) }
    }
    try expectBroken(
      Self.sequence, history, "TscSequence 0 while the VM has no master clock", "TscSequence 1")
  }

  /// Linux before 5.12 renews the page when vCPU 0 enters, and no sooner.
  @Test func aPageThatAwaitsTheBootVCPUIsNotBroken() throws {
    var host = HistoryBuilder(.hyperV)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.enableReferencePage()
    host.compareWithHyperV()
    let old = host.others.page
    host.setClock(1 << 50)
    for _ in 0..<2 {
      host.host(.memory(address: Hex(HistoryBuilder.referencePage), bytes: HexBytes(old)))
      host.read(1)
    }
    for id in [Self.page, Self.follows, Self.noStep, Self.sequence] {
      #expect(try !judge(id, host.history).isBroken)
    }
  }

  @Test func withoutThePageTheCounterIsJudgedAlone() throws {
    let history = Self.history(.hpet)
    for id in [Self.count, Self.noStep] { try expectHoldsOrLacks(id, history) }
    try expectNotTested(Self.page, history, "TscSequence is 0")
  }

  private func expectHoldsOrLacks(_ id: String, _ history: History) throws {
    let outcome = try judge(id, history)
    #expect(outcome.holds || outcome.isNotTested, "\(outcome)")
  }
}
