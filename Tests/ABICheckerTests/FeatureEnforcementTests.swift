import Testing

@testable import ABIChecker

@Suite struct FeatureEnforcementTests {
  static let enforce = "ENFORCE-PV-GP"
  static let free = "NOENFORCE-WORKS"
  static let filter = "MSR-FILTER-GP"

  /// The honest history of a scenario with every event that `change` takes for one to break.
  static func broken(
    _ scenario: ScenarioName, _ change: (inout Action, _ at: Int, _ events: [Event]) -> Void
  ) -> History {
    var history = Script.history(of: scenario)
    let events = history.events
    for at in events.indices { change(&history.events[at].action, at, events) }
    return history
  }

  /// What decides in a history whether vCPU `id` may use an MSR.
  static func features(of id: Int) -> UInt64 { (Script.offers[id % 7] ?? 0) }

  static func isOn(_ ids: Range<Int>, _ event: Event) -> Int? {
    if case .vcpu(let id) = event.actor, ids.contains(id) { id } else { nil }
  }

  @Test func theNewMSRGatedByTheOldOnesBitIsBroken() throws {
    let history = Self.broken(.pvFeatures) { action, at, events in
      guard let id = Self.isOn(0..<14, events[at]),
        case .wroteMSR(0x4b56_4d01, let value, _) = action
      else { return }
      action = .wroteMSR(
        msr: 0x4b56_4d01, value: value,
        fault: Self.features(of: id) & 1 == 1 ? nil : HistoryBuilder.gp)
    }
    try expectBroken(
      Self.enforce, history, "no fault from vcpu2's WRMSR of 0x4b564d01: EAX 0x8",
      "#GP from vcpu1's WRMSR of 0x4b564d01: EAX 0x1", "exception vector 13")
  }

  /// Linux before 1930e5ddcead.
  @Test func readsThatAreNotGatedAreBroken() throws {
    let history = Self.broken(.pvFeatures) { action, _, _ in
      guard case .readMSR(let msr, _, _?) = action else { return }
      action = .readMSR(msr: msr, value: 0, fault: nil)
    }
    try expectBroken(Self.enforce, history, "#GP from vcpu0's RDMSR of 0x11: EAX 0x0", "no fault")
  }

  /// Linux before 01b4f510b9f4: enabled after CPUID, the features are those of no CPUID.
  @Test func theOrderOfCapabilityAndCPUIDMatters() throws {
    let history = Self.broken(.pvFeatures) { action, at, events in
      guard Self.isOn(7..<14, events[at]) != nil else { return }
      switch action {
      case .wroteMSR(let msr, let value, nil):
        action = .wroteMSR(msr: msr, value: value, fault: HistoryBuilder.gp)
      case .readMSR(let msr, let value, nil):
        action = .readMSR(msr: msr, value: value, fault: HistoryBuilder.gp)
      default: return
      }
    }
    try expectBroken(
      Self.enforce, history, "no fault from vcpu8's WRMSR of 0x11: EAX 0x1, enforced after CPUID")
  }

  @Test func anotherExceptionIsBroken() throws {
    let history = Self.broken(.pvFeatures) { action, _, _ in
      guard case .wroteMSR(let msr, let value, _?) = action else { return }
      action = .wroteMSR(
        msr: msr, value: value, fault: Fault(vector: 6, errorCode: 0, address: 0x8000))
    }
    try expectBroken(Self.enforce, history, "#GP from vcpu0's WRMSR of 0x11", "exception vector 6")
  }

  @Test(arguments: [(enforce, ScenarioName.pvFeatures), (filter, .msrFilter)])
  func aWriteThatFaultsMustNotChangeTheMSR(rule: String, scenario: ScenarioName) throws {
    var last: Hex = 0
    let history = Self.broken(scenario) { action, _, _ in
      if case .wroteMSR(let msr, let value, _) = action, MSR.isSystemTime(msr) { last = value }
      if case .readMSR(let msr, _, nil) = action, MSR.isSystemTime(msr) {
        action = .readMSR(msr: msr, value: last, fault: nil)
      }
    }
    try expectBroken(rule, history, "the last value whose write did not fault")
  }

  @Test(arguments: [(enforce, ScenarioName.pvFeatures), (filter, .msrFilter)])
  func aWriteThatFaultsMustNotTouchMemory(rule: String, scenario: ScenarioName) throws {
    let history = Self.broken(scenario) { action, at, events in
      guard case .memory(let address, var hex) = action,
        case .wroteMSR(_, _, _?) = events[at - 5].action
      else { return }
      hex.bytes[64 + 17] = 3
      action = .memory(address: address, bytes: hex)
    }
    try expectBroken(rule, history, "the write that named them faulted", "0x3 at 0x400111")
  }

  @Test func aByteBesideTheRecordIsNotTheWrites() throws {
    let history = Self.broken(.pvFeatures) { action, _, _ in
      guard case .memory(let address, var hex) = action else { return }
      hex.bytes[63] = 3
      hex.bytes[96] = 3
      action = .memory(address: address, bytes: hex)
    }
    try expectHolds(Self.enforce, history)
  }

  static let byHost = "ENFORCE-PV-HOST"

  /// Linux before 6.12.
  @Test func aReadThatTheHostIsRefusedIsBroken() throws {
    let history = Self.broken(.pvFeatures) { action, at, events in
      guard case .hostReadMSR(let vcpu, let msr, 0) = action else { return }
      action = .hostMSRReadRefused(vcpu: vcpu, msr: msr)
    }
    try expectBroken(
      Self.byHost, history, "0x0 from KVM_GET_MSRS of 0x11 on vcpu0: EAX 0x0", "it was refused")
    try expectHolds(Self.enforce, history)
  }

  @Test func whatIsNotOfferedHasNoValueForTheHost() throws {
    let history = Self.broken(.pvFeatures) { action, _, _ in
      guard case .hostReadMSR(let vcpu, 0x12, 0) = action else { return }
      action = .hostReadMSR(vcpu: vcpu, msr: 0x12, value: 0x9001)
    }
    try expectBroken(Self.byHost, history, "0x0 from KVM_GET_MSRS of 0x12 on vcpu0", "0x9001")
  }

  @Test func theHostsWritesAreGatedToo() throws {
    let accepted = Self.broken(.pvFeatures) { action, _, _ in
      guard case .hostMSRRefused(let vcpu, let msr, let value) = action else { return }
      action = .hostWroteMSR(vcpu: vcpu, msr: msr, value: value)
    }
    try expectBroken(
      Self.byHost, accepted, "a refusal from KVM_SET_MSRS of 0x11 on vcpu0: EAX 0x0")
    let refused = Self.broken(.pvFeatures) { action, _, _ in
      guard case .hostWroteMSR(let vcpu, let msr, let value) = action else { return }
      action = .hostMSRRefused(vcpu: vcpu, msr: msr, value: value)
    }
    try expectBroken(
      Self.byHost, refused, "from KVM_SET_MSRS of 0x4b564d01 on vcpu2: EAX 0x8", "it was refused")
  }

  @Test func theHostHasToTryEachMSR() throws {
    var history = Script.history(of: .pvFeatures)
    history.events.removeAll {
      if case .hostReadMSR(_, 0x12, _) = $0.action { true } else { false }
    }
    try expectNotTested(Self.byHost, history, "KVM_GET_MSRS of 0x12")
  }

  @Test func withoutTheCapabilityNothingIsEnforced() throws {
    var host = HistoryBuilder(.pvFeatures)
    host.createMachine()
    host.host(
      .lacking(what: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", evidence: "KVM_ENABLE_CAP: EINVAL"))
    for (id, features) in [UInt64?.some(0), nil].enumerated() {
      host.createVCPU(id, features: features, enforced: nil)
      host.tryClockMSRs(id)
    }
    try expectNotTested(Self.enforce, host.history, "KVM_ENABLE_CAP: EINVAL")
    try expectHolds(Self.free, host.history)
  }

  @Test func oneOrderIsNotEnough() throws {
    var host = HistoryBuilder(.pvFeatures)
    host.createMachine()
    for (id, features) in (Script.offers + Script.offers).enumerated() {
      host.createVCPU(id, features: features, enforced: .after)
      host.tryClockMSRs(id)
    }
    try expectNotTested(Self.enforce, host.history, "before CPUID and after")
  }

  @Test func aFaultThatNobodyAskedForIsBroken() throws {
    let history = Self.broken(.pvFeatures) { action, at, events in
      guard Self.isOn(14..<16, events[at]) != nil, case .readMSR(let msr, let value, _) = action
      else { return }
      action = .readMSR(msr: msr, value: value, fault: HistoryBuilder.gp)
    }
    try expectBroken(
      Self.free, history, "no fault from vcpu14's RDMSR of 0x11: EAX 0x0",
      "vcpu15's RDMSR of 0x4b564d01: no KVM leaf", "exception vector 13")
  }

  @Test func aRecordThatNobodyServesIsBroken() throws {
    let history = Self.broken(.pvFeatures) { action, _, _ in
      guard case .memory(let address, _) = action else { return }
      action = .memory(
        address: address, bytes: HexBytes([UInt8](repeating: 0xa5, count: 160)))
    }
    try expectBroken(
      Self.free, history, "a record at 0x40e300, which the guest asked for through 0x12",
      "version 2779096485")
    try expectHolds(Self.enforce, history)
  }

  @Test func withAllFeaturesOfferedNothingShowsThatNobodyEnforces() throws {
    var host = HistoryBuilder(.pvFeatures)
    host.createMachine()
    host.createVCPU(0, features: 0x0100_7efb, enforced: nil)
    host.tryClockMSRs(0)
    try expectNotTested(Self.free, host.history, "does not offer", "saw 0")
  }

  /// An access that the filter lets through, or one that it stops.
  @Test(arguments: [true, false])
  func theFilterIsForOneMSR(isDenied: Bool) throws {
    var denied: [Hex] = []
    let history = Self.broken(.msrFilter) { action, _, _ in
      if case .msrsDenied(let msrs) = action { denied = msrs }
      guard case .readMSR(let msr, let value, _) = action, denied == [0x12] else { return }
      if isDenied, msr == 0x12 { action = .readMSR(msr: msr, value: value, fault: nil) }
      if !isDenied, msr == 0x4b56_4d01 {
        action = .readMSR(msr: msr, value: value, fault: HistoryBuilder.gp)
      }
    }
    if isDenied {
      try expectBroken(
        Self.filter, history,
        "#GP from vcpu0's RDMSR of 0x12: KVM_X86_SET_MSR_FILTER denies it", "no fault")
    } else {
      try expectBroken(
        Self.filter, history,
        "no fault from vcpu0's RDMSR of 0x4b564d01: KVM_X86_SET_MSR_FILTER does not deny it",
        "exception vector 13")
    }
  }

  @Test func theHostIsNotFiltered() throws {
    let refused = Self.broken(.msrFilter) { action, _, _ in
      guard case .hostWroteMSR(let vcpu, 0x12, let value) = action else { return }
      action = .hostMSRRefused(vcpu: vcpu, msr: 0x12, value: value)
    }
    try expectBroken(
      Self.filter, refused, "KVM_SET_MSRS of 0x12 on vcpu0 to accept 0x9001", "refused")
    let lost = Self.broken(.msrFilter) { action, _, _ in
      guard case .hostReadMSR(let vcpu, 0x12, _) = action else { return }
      action = .hostReadMSR(vcpu: vcpu, msr: 0x12, value: 5)
    }
    try expectBroken(Self.filter, lost, "0x9001 from KVM_GET_MSRS of 0x12", "0x5")
  }

  @Test func withoutTheFilterNothingIsDenied() throws {
    var host = HistoryBuilder(.msrFilter)
    host.createMachine()
    host.createVCPU(0, features: 9, enforced: nil)
    host.tryClockMSRs(0)
    try expectNotTested(Self.filter, host.history, "while it was denied")
    host.host(.lacking(what: "KVM_CAP_X86_MSR_FILTER", evidence: "KVM_CHECK_EXTENSION returns 0"))
    try expectNotTested(Self.filter, host.history, "KVM_CHECK_EXTENSION returns 0")
  }

  // MARK: Coverage

  /// The wall clock, through either MSR, is one of the clock's MSRs too.
  @Test(arguments: [1, 2])
  func aWallClockThatNobodyServesIsBroken(part: Int) throws {
    let msr = part == 1 ? MSR.wallClockOld : MSR.wallClock
    let history = Self.broken(.pvFeatures) { action, _, events in
      guard case .memory(let address, var hex) = action,
        events.contains(where: {
          if case .wroteMSR(Hex(msr), let value, nil) = $0.action {
            value.value == address.value + 64
          } else {
            false
          }
        })
      else { return }
      hex.bytes.replaceSubrange(64..<76, with: repeatElement(0xa5, count: 12))
      action = .memory(address: address, bytes: hex)
    }
    try expectBroken(
      Self.free, history, "which the guest asked for through \(Hex(msr))", "sec 2779096485")
    try expectHolds(Self.enforce, history)
  }

  @Test(arguments: MSR.clock)
  func theRecordOfEachMSRIsNeeded(msr: UInt32) throws {
    var history = Script.history(of: .pvFeatures)
    let events = history.events
    history.events.removeAll { event in
      guard case .memory(let address, _) = event.action else { return false }
      let asked = Hex(MSR.request(msr, at: address.value + 64))
      return events.contains {
        $0.action == .wroteMSR(msr: Hex(msr), value: asked, fault: nil)
      }
    }
    try expectNotTested(Self.free, history, "records by MSR", Hex(msr).description)
  }

  @Test func aCPUIDWithoutLeavesIsNeeded() throws {
    var host = HistoryBuilder(.pvFeatures)
    host.createMachine()
    for id in 0..<3 {
      host.createVCPU(id, features: 0, enforced: nil)
      host.tryClockMSRs(id)
    }
    try expectNotTested(Self.free, host.history, "did not see no KVM leaf")
  }

  @Test(arguments: [(enforce, ScenarioName.pvFeatures), (filter, .msrFilter)])
  func memoryThatNobodyReadShowsNothing(rule: String, scenario: ScenarioName) throws {
    var history = Script.history(of: scenario)
    history.events.removeAll { if case .memory = $0.action { true } else { false } }
    try expectNotTested(rule, history, "records whose WRMSR faulted")
  }

  @Test func theHostsOwnAccessesAreNeeded() throws {
    var history = Script.history(of: .msrFilter)
    history.events.removeAll { if case .hostReadMSR = $0.action { true } else { false } }
    try expectNotTested(Self.filter, history, "MSRs that the host read")
    var host = HistoryBuilder(.msrFilter)
    host.createMachine()
    host.createVCPU(0, features: 9, enforced: nil)
    for msr in MSR.clock {
      host.deny([msr])
      host.tryClockMSRs(0)
    }
    try expectNotTested(Self.filter, host.history, "MSRs that the host wrote")
  }

  /// After the write that faulted another one named the same memory.
  @Test func memoryThatALaterWriteNamedAccusesNobody() throws {
    var host = HistoryBuilder(.pvFeatures)
    host.createMachine()
    host.createVCPU(0, features: 1, enforced: .after)
    host.fill(0x9000, count: 32)
    host.tryWrite(0, MSR.systemTime, 0x9001)
    host.tryWrite(0, MSR.systemTimeOld, 0x9001)
    host.dump(0x9000, count: 32)
    try expectNotTested(Self.enforce, host.history)
  }
}
