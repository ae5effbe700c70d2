import PVClock
import Testing

@testable import ABIChecker

@Suite struct ScaledTSCTests {
  static let own = SimulatedTime.tscKHz
  static let half = own / 2

  static func history(
    scaling: Int32? = 1, ofVM: Int32? = 1, _ steps: (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(.scaledTSC)
    if let scaling { host.host(.capability(name: "KVM_CAP_TSC_CONTROL", value: scaling)) }
    if let ofVM { host.host(.capability(name: "KVM_CAP_VM_TSC_CONTROL", value: ofVM)) }
    steps(&host)
    return host.history
  }

  static let rules = [
    "SCALED-TSC-COUNTS", "SCALED-MULSHIFT", "SCALED-KEEPS-TIME", "SCALED-CHANGE-KEEPS-TIME",
    "SCALED-MIGRATION", "SCALED-GETCLOCK-IS-GUEST-VIEW",
  ]

  /// All that the scenario does, at half the host's frequency and at 4/3 of it. Of two answers to the same question the first one
  /// counts.
  static func whole(
    scaling: Int32? = 1, wholeKHz: Bool = false,
    _ prepare: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    history(scaling: scaling) { host in
      host.countsWholeKHz = wholeKHz
      prepare(&host)
      Script.scaledTSC(&host)
    }
  }

  /// Two vCPUs at half the host's frequency; `fault` acts in the middle of what they do.
  static func atHalf(
    counts: UInt32? = nil, wholeKHz: Bool = false,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    history { host in
      host.countsWholeKHz = wholeKHz
      host.machine(0, 1)
      for id in [0, 1] { host.scaleTSC(id, half, counts: counts) }
      host.useClock(fault)
    }
  }

  // MARK: What a host has to have

  @Test(arguments: rules)
  func aHostThatDoesNotScaleIsNotTested(id: String) throws {
    try expectNotTested(id, Self.whole(scaling: 0), "KVM_CAP_TSC_CONTROL is 0")
  }

  @Test(arguments: rules)
  func whereNobodyAskedItIsNotTested(id: String) throws {
    let history = Self.history(scaling: nil) { host in
      host.machine(0, 1)
      for id in [0, 1] { host.scaleTSC(id, Self.half) }
      host.useClock()
    }
    try expectNotTested(id, history, "KVM_CAP_TSC_CONTROL")
  }

  /// A frequency that is accepted and ignored gates all but the rule that says so.
  @Test func aTSCThatStaysAtTheHostsRateIsNoScaledOne() throws {
    let history = Self.atHalf(counts: Self.own)
    try expectBroken(
      "SCALED-TSC-COUNTS", history, "1298059 kHz", "the host's counts at 2596118")
    for id in Self.rules where id != "SCALED-TSC-COUNTS" { try expectNotTested(id, history) }
  }

  // MARK: SCALED-TSC-COUNTS

  @Test func anotherRateThanTheOneAcceptedIsBroken() throws {
    try expectBroken(
      "SCALED-TSC-COUNTS", Self.atHalf(counts: Self.half - Self.half / 50), "1298059 kHz")
  }

  @Test func oneFrequencyIsNotEnough() throws {
    try expectNotTested("SCALED-TSC-COUNTS", Self.atHalf(), "above the host's")
  }

  @Test func aTSCThatStaysScaledIsBroken() throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.scaleTSC(id, Self.half) }
      host.useClock()
      for id in [0, 1] { host.scaleTSC(id, Self.own, counts: Self.half) }
      host.useClock()
    }
    try expectBroken(
      "SCALED-TSC-COUNTS", history, "to count at 2596118 kHz", "1299370 kHz; the host's counts")
  }

  @Test func readingsAtOneMomentTellNoRate() throws {
    let history = Self.history { host in
      host.bracket = 80_000_000
      host.machine(0, 1)
      for id in [0, 1] { host.scaleTSC(id, Self.half) }
      host.useClock()
    }
    try expectNotTested("SCALED-TSC-COUNTS", history)
  }

  // MARK: SCALED-MULSHIFT

  @Test func aScaleForWholeKilohertzHolds() throws {
    try expectHolds("SCALED-MULSHIFT", Self.whole(wholeKHz: true))
  }

  @Test func theHostsScaleIsBroken() throws {
    let scale = TSCScale(tscKHz: Self.own)
    let history = Self.atHalf { host in
      for id in [0, 1] {
        host.records[host.vcpus[id]!.address]?.tscToSystemMultiplier = scale.multiplier
        host.records[host.vcpus[id]!.address]?.tscShift = scale.shift
      }
    }
    try expectBroken(
      "SCALED-MULSHIFT", history, "1298059 kHz", "tsc_shift \(scale.shift)")
  }

  @Test func twoKilohertzOffIsBroken() throws {
    let scale = TSCScale(tscKHz: Self.half - 2)
    let history = Self.atHalf { host in
      host.records[host.vcpus[0]!.address]?.tscToSystemMultiplier = scale.multiplier
    }
    try expectBroken("SCALED-MULSHIFT", history, "\(Hex(scale.multiplier))")
  }

  // MARK: SCALED-KEEPS-TIME, TSCKHZ-KEEPS-TIME

  @Test func aClockThatStepsIsBroken() throws {
    let history = Self.atHalf { $0.stepClock(by: 5_000_000) }
    for id in ["SCALED-KEEPS-TIME", "TSCKHZ-KEEPS-TIME"] {
      try expectBroken(id, history, "(5.0 ms) too high")
    }
  }

  @Test func aValueSetThatIsLostIsBroken() throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.scaleTSC(id, Self.half) }
      host.useClock()
      host.setClock(5_000_000_000)
      host.stepClock(by: -1_000_000_000)
      host.read(0)
      host.wait(milliseconds: 3)
      host.read(0)
    }
    for id in ["SCALED-KEEPS-TIME", "TSCKHZ-KEEPS-TIME"] {
      try expectBroken(id, history, "5000000000 ns", "(1000.0 ms) too low")
    }
  }

  @Test func withoutScalingTheClockIsJudgedAllTheSame() throws {
    let history = Self.history(scaling: 0) { host in
      for off: UInt32 in [100, 200] {
        host.machine(0, 1)
        for id in [0, 1] { host.register(id) }
        for id in [0, 1] { host.read(id) }
        for id in [0, 1] { host.setTSCKHz(id, Self.own + off) }
        host.useClock()
        host.machine(0, 1)
        for id in [0, 1] { host.setTSCKHz(id, Self.own + off) }
        host.useClock()
      }
    }
    try expectHolds("TSCKHZ-KEEPS-TIME", history)
    for id in Self.rules { try expectNotTested(id, history, "KVM_CAP_TSC_CONTROL is 0") }
  }

  @Test func aChangeThatStepsTheClockIsBroken() throws {
    let history = Self.history(scaling: 0) { host in
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      for id in [0, 1] { host.read(id) }
      for id in [0, 1] { host.setTSCKHz(id, Self.own + 100) }
      host.stepClock(by: 5_000_000)
      for id in [0, 1] { host.read(id) }
    }
    try expectBroken("TSCKHZ-KEEPS-TIME", history, "(5.0 ms) too high")
  }

  @Test func whatIsRefusedIsNotTested() throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.setTSCKHz(id, Self.half, error: "EINVAL") }
      host.useClock()
    }
    try expectNotTested("TSCKHZ-KEEPS-TIME", history)
    try expectNotTested("TSCKHZ-MIGRATION", history)
  }

  // MARK: SCALED-CHANGE-KEEPS-TIME

  static func change(to kHz: UInt32, updates: Bool) -> History {
    history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      for frequency in [half, own] {
        for id in [0, 1] { host.read(id) }
        for id in [0, 1] { host.scaleTSC(id, frequency, updates: updates || frequency != kHz) }
        for id in [0, 1] { host.read(id) }
        host.useClock()
      }
    }
  }

  @Test func recordsThatFollowTheRateHold() throws {
    try expectHolds("SCALED-CHANGE-KEEPS-TIME", Self.change(to: Self.half, updates: true))
  }

  /// What Linux up to 7.3 does: KVM_SET_TSC_KHZ asks for no update.
  @Test(arguments: [half, own]) func aRecordThatIsLeftAloneIsBroken(kHz: UInt32) throws {
    let history = Self.change(to: kHz, updates: false)
    try expectBroken("SCALED-CHANGE-KEEPS-TIME", history, "too ")
    try expectKnown(true, "SCALED-CHANGE-KEEPS-TIME", history)
  }

  @Test func aNewRecordThatIsWrongIsNoKnownDeviation() throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      for frequency in [Self.half, Self.own] {
        for id in [0, 1] { host.read(id) }
        for id in [0, 1] { host.scaleTSC(id, frequency) }
        host.stepClock(by: 5_000_000)
        for id in [0, 1] { host.read(id) }
        host.useClock()
      }
    }
    try expectKnown(false, "SCALED-CHANGE-KEEPS-TIME", history)
  }

  /// Whether the deviation of all kernels explains what breaks a rule.
  private func expectKnown(_ isKnown: Bool, _ id: String, _ history: History) throws {
    let rule = try #require(Rule.named(id))
    guard case .broken(let violations) = rule.judge(Timeline(history)) else {
      Issue.record("\(id) is not broken")
      return
    }
    #expect(violations.allSatisfy { ($0.fitsDeviation == true) == isKnown })
  }

  @Test func onlyOneDirectionIsNotEnough() throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      for id in [0, 1] { host.read(id) }
      for id in [0, 1] { host.scaleTSC(id, Self.half) }
      for id in [0, 1] { host.read(id) }
      host.useClock()
    }
    try expectNotTested("SCALED-CHANGE-KEEPS-TIME", history, "back to the host's")
  }

  // MARK: SCALED-MIGRATION, TSCKHZ-MIGRATION

  static func moved(_ fault: (inout HistoryBuilder) -> Void = { _ in }) -> History {
    history { host in
      for after in [half, nil] {
        host.machine(0, 1)
        for id in [0, 1] { host.scaleTSC(id, half) }
        for id in [0, 1] { host.register(id) }
        host.wait(milliseconds: 3)
        for id in [0, 1] { host.read(id) }
        host.wait(milliseconds: 3)
        for id in [0, 1] { host.read(id) }
        host.migrate(at: after, fault)
      }
    }
  }

  @Test(arguments: ["SCALED-MIGRATION", "TSCKHZ-MIGRATION"])
  func aVMThatGoesOnHolds(id: String) throws { try expectHolds(id, Self.moved()) }

  @Test(arguments: ["SCALED-MIGRATION", "TSCKHZ-MIGRATION"])
  func aVMThatStepsIsBroken(id: String) throws {
    try expectBroken(
      id, Self.moved { $0.stepClock(by: 20_000_000) }, "(20.0 ms) too high",
      "at 1298059 kHz before the move and at the host's rate after it")
  }

  @Test(arguments: ["SCALED-MIGRATION", "TSCKHZ-MIGRATION"])
  func aVMAtTheHostsRateIsNoProof(id: String) throws {
    let history = Self.history { host in
      host.machine(0, 1)
      for id in [0, 1] { host.register(id) }
      host.migrate(at: nil)
    }
    try expectNotTested(id, history)
  }

  // MARK: SCALED-GETCLOCK-IS-GUEST-VIEW

  @Test func theGuestsViewHolds() throws {
    try expectHolds("SCALED-GETCLOCK-IS-GUEST-VIEW", Self.atHalf())
  }

  /// What Linux up to 7.3 does: KVM_GET_CLOCK converts the host's TSC, and records are made for whole kHz. 3 ms after the
  /// pair the two are 2 ns apart, and 0.8 ns more with each ms.
  @Test func theHostsViewIsBroken() throws {
    let history = Self.atHalf(wholeKHz: true) { $0.wait(milliseconds: 20) }
    try expectBroken(
      "SCALED-GETCLOCK-IS-GUEST-VIEW", history, "the guest's TSC of host_tsc", "too low")
    try expectKnown(true, "SCALED-GETCLOCK-IS-GUEST-VIEW", history)
  }

  @Test func aClockThatIsAheadIsBroken() throws {
    var history = Self.atHalf()
    for index in history.events.indices {
      if case .getClock(var record) = history.events[index].action {
        record.clock += 50
        history.events[index].action = .getClock(record)
      }
    }
    try expectBroken("SCALED-GETCLOCK-IS-GUEST-VIEW", history, "50 ns")
    try expectKnown(false, "SCALED-GETCLOCK-IS-GUEST-VIEW", history)
  }

  @Test func withoutAnOffsetItIsNotTested() throws {
    var history = Self.atHalf()
    history.events.removeAll { if case .tscOffset = $0.action { true } else { false } }
    try expectNotTested("SCALED-GETCLOCK-IS-GUEST-VIEW", history)
  }

  @Test func aTSCThatIsNoMultipleOfTheHostsIsNotTested() throws {
    var history = Self.atHalf()
    for index in history.events.indices {
      if case .tscOffset(let vcpu, let cycles) = history.events[index].action {
        history.events[index].action = .tscOffset(vcpu: vcpu, cycles: cycles &+ 1 << 40)
      }
    }
    try expectNotTested(
      "SCALED-GETCLOCK-IS-GUEST-VIEW", history, "is not the host's times 1298059/2596118")
  }

  // MARK: Other rules

  /// A record for a scaled TSC is no business of the rules that know the host's frequency alone.
  @Test func noOtherRuleIsBrokenByWhatLinuxDoes() throws {
    let timeline = Timeline(Self.whole(wholeKHz: true))
    for rule in Rule.all where rule.id != "SCALED-GETCLOCK-IS-GUEST-VIEW" {
      guard rule.concerns(ScenarioName.scaledTSC.rawValue) else { continue }
      #expect(!rule.judge(timeline).isBroken, "\(rule.id): \(rule.judge(timeline))")
    }
  }
}
