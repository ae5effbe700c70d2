import PVClock
import Testing

@testable import ABIChecker

@Suite struct TSCMatchingTests {
  static let created = "TSC-MATCHED-AT-CREATE"
  static let lost = "STABLE-LOST-OFFSET-MISMATCH"
  static let regained = "STABLE-REGAINED-OFFSET-MATCH"
  static let lag = "STABLE-LAG"
  static let origin = Script.origin
  static let other = Script.origin &+ 1_000_000

  /// Two vCPUs with a master clock; then offsets are set, and everybody enters.
  static func after(
    _ settings: [(id: Int, cycles: UInt64)], source: SimulatedTime.Source = .tsc,
    takesEffect: Bool = true, _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.tscMatching, source: source)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    for (id, cycles) in settings {
      host.setTSCOffset(id, cycles, takesEffect: takesEffect)
      fault(&host)
      host.getClock()
      for each in [id, 1 - id] { host.enter(each) }
      host.settleAndLook()
    }
    return host.history
  }

  static let once = [(0, other), (1, other), (1, origin), (0, origin)]
  static let thereAndBack = once.flatMap { [$0, $0] }

  /// "Once or twice": a kernel may count a vCPU twice.
  @Test(arguments: [lost, regained])
  func settingsThatAreNotRepeatedAreNotEnough(id: String) throws {
    try expectNotTested(
      id, Self.after(Self.once), "settings of a TSC offset: did not see twice")
  }

  @Test func aVCPUThatCountsTwiceIsBroken() throws {
    var settings = 0
    let history = Self.after(Self.thereAndBack) {
      settings += 1
      $0.offsetsDiffer = [1, 5].contains(settings)
    }
    try expectBroken(Self.lost, history, "bit 0 clear in vcpu0's record: the TSC offsets differ")
  }

  @Test func offsetsThatDifferTakeTheMasterClockAway() throws {
    try expectHolds(Self.lost, Self.after(Self.thereAndBack))
    try expectHolds(Self.regained, Self.after(Self.thereAndBack))
  }

  @Test func aMasterClockThatStaysIsBroken() throws {
    let history = Self.after(Self.thereAndBack) { $0.offsetsDiffer = false }
    try expectBroken(
      Self.lost, history, "bit 0 clear in vcpu0's record: the TSC offsets differ",
      "bit 0 clear in vcpu1's record", "KVM_CLOCK_TSC_STABLE clear", "flags 0x1", "flags 0xe")
  }

  @Test func aMasterClockThatStaysAwayIsBroken() throws {
    let history = Self.after(Self.thereAndBack) { $0.offsetsDiffer = true }
    try expectBroken(
      Self.regained, history, "bit 0 set in vcpu1's record: all TSC offsets are equal again",
      "KVM_CLOCK_TSC_STABLE set", "flags 0x0")
    try expectHolds(Self.lost, history)
  }

  /// Not by settings that follow each other: KVM compares with the value that was set last.
  @Test func theSameVCPUsWayBackProvesNothing() throws {
    let history = Self.after([(0, Self.other), (0, Self.origin)]) { host in
      host.offsetsDiffer = true
    }
    #expect(try !judge(Self.regained, history).isBroken)
  }

  @Test func anOffsetThatIsIgnoredIsNotTested() throws {
    let history = Self.after(Self.thereAndBack, takesEffect: false)
    for id in [Self.created, Self.lost, Self.regained] {
      try expectNotTested(id, history, "set to -6998999000000 cycles", "-6999000000000")
    }
  }

  @Test func withoutAMasterClockNothingIsLost() throws {
    for id in [Self.lost, Self.regained, Self.lag] {
      try expectNotTested(id, Self.after(Self.thereAndBack, source: .hpet))
    }
    try expectNotTested(Self.lost, Self.after([]))
  }

  /// Between the setting and the entry of its vCPU nothing is owed.
  @Test func theOtherVCPUsEntryIsTooEarly() throws {
    var host = HistoryBuilder(.tscMatching)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    host.setTSCOffset(0, Self.other)
    for id in [1, 1] { host.enter(id) }
    host.look(1)
    host.getClock()
    try expectNotTested(Self.lost, host.history, "saw 0")
  }

  @Test func theLagIsObserved() throws {
    #expect(
      try judge(Self.lag, Self.after(Self.thereAndBack))
        == .observed(
          value: "after 2 settings the flag is still set before the next entry, clear after it"))
    let atOnce = Self.after(Self.thereAndBack) { $0.pair = nil }
    guard case .observed(let value) = try judge(Self.lag, atOnce) else {
      Issue.record("not observed")
      return
    }
    #expect(value.contains("clear at once"))
  }

  static func machine(
    late: UInt64 = origin, source: SimulatedTime.Source = .tsc, proves: Bool = true
  ) -> History {
    var host = HistoryBuilder(.tscMatching, source: source)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.createVCPU(2, tscOffset: late)
    host.machine(0, 1)
    if proves { host.setTSCOffset(0, other) }
    return host.history
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func allAreMadeAlike(source: SimulatedTime.Source) throws {
    try expectHolds(Self.created, Self.machine(source: source))
  }

  @Test func aLateOneWithAnOffsetOfItsOwnIsBroken() throws {
    try expectBroken(
      Self.created, Self.machine(late: Self.origin &+ 77),
      "vcpu2's TSC offset as the first vCPU's: -6999000000000 cycles", "-6998999999923 cycles")
  }

  @Test func anUnstableTSCOwesNothing() throws {
    #expect(try !judge(Self.created, Self.machine(late: 1, source: .hpet)).isBroken)
  }

  @Test func withoutAProofThatTheAttributeWorksItIsNotTested() throws {
    try expectNotTested(
      Self.created, Self.machine(proves: false), "saw 0 TSC offsets that were set")
  }
}

extension TSCMatchingTests {
  /// "Every record": of two vCPUs' only one was read.
  @Test(arguments: [lost, regained])
  func aRecordThatNobodyReadIsNotTested(id: String) throws {
    var host = HistoryBuilder(.tscMatching)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    for (id, cycles) in Self.thereAndBack {
      host.setTSCOffset(id, cycles)
      for each in [id, 1 - id] { host.enter(each) }
      for _ in 0..<6 { host.look(0) }
      host.getClock()
    }
    try expectNotTested(id, host.history, "saw 1 different records (vcpu0)")
  }

  /// With the boot vCPU on the old MSR no offset brings the master clock back.
  @Test func theOldMSRIsNoFaultOfTheOffsets() throws {
    var host = HistoryBuilder(.tscMatching)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    host.setTSCOffset(0, Self.other)
    host.settleAndLook()
    host.register(0, msr: MSR.systemTimeOld)
    host.setTSCOffset(1, Self.other)
    for _ in 0..<2 { host.settleAndLook() }
    #expect(try !judge(Self.regained, host.history).isBroken)
  }

  /// The guest moved its TSC after user space had set all offsets to one value.
  @Test func aTSCThatTheGuestMovesIsNoFaultOfTheOffsets() throws {
    var host = HistoryBuilder(.tscMatching)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.settleAndLook()
    for id in [0, 1] {
      host.setTSCOffset(id, Self.other)
      host.settleAndLook()
    }
    host.guestWriteTSC(0, MSR.tsc, 5)
    host.offsetsDiffer = true
    host.vcpus[0]?.wantsPair = true
    host.settleAndLook()
    #expect(try !judge(Self.regained, host.history).isBroken)
  }

  /// The host had moved the new vCPU's TSC before its offset was read.
  @Test func aTSCThatTheHostMovesIsNoFaultOfTheCreation() throws {
    var host = HistoryBuilder(.tscMatching)
    host.machine(0, 1)
    host.host(.vcpuCreated(vcpu: 2))
    host.host(.hostWroteMSR(vcpu: 2, msr: Hex(MSR.tsc), value: 5))
    host.host(.tscOffset(vcpu: 2, cycles: 77))
    host.setTSCOffset(0, Self.other)
    #expect(try !judge(Self.created, host.history).isBroken)
  }

  @Test func aVCPUThatComesLateIsNeeded() throws {
    var host = HistoryBuilder(.tscMatching)
    for _ in 0..<4 { host.machine(0, 1) }
    host.setTSCOffset(0, Self.other)
    try expectNotTested(Self.created, host.history, "made while the VM ran")
  }
}
