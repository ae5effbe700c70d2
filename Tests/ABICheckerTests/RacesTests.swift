import PVClock
import Testing

@testable import ABIChecker

@Suite struct RacesTests {
  static func contend(
    source: SimulatedTime.Source = .tsc,
    _ change: (inout RaceResult, Int, Int) -> Void = { _, _, _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.contend, source: source)
    host.machine(0, 1)
    for id in [0, 1, 0, 1] { host.register(id) }
    host.race(1, [0, 1]) { change(&$0, 1, $1) }
    host.race(2, [0, 1], owner: 0) { change(&$0, 2, $1) }
    for id in [0, 1] { host.look(id) }
    host.register(0, msr: MSR.systemTimeOld)
    host.movesBetweenCPUs = false
    for id in [1, 0] { host.enter(id) }
    for id in [0, 1] { host.look(id) }
    host.race(3, [0, 1]) { change(&$0, 3, $1) }
    return host
  }

  static let rules = ["MONO-CROSS-VCPU", "VSYSCALL-PAGE0-ON-VCPU1", "MONO-CROSS-NOSTABLE"]

  @Test(arguments: rules)
  func anHonestRaceHolds(id: String) throws {
    try expectHolds(id, Self.contend().history)
  }

  @Test(arguments: [(1, "MONO-CROSS-VCPU"), (2, "VSYSCALL-PAGE0-ON-VCPU1")])
  func aStepOfOneNanosecondIsBroken(race: Int, id: String) throws {
    let history = Self.contend { result, number, vcpu in
      guard number == race, vcpu == 1 else { return }
      (result.backwards, result.worst, result.worstBefore) = (2, -1, 123_456)
      result.worstBeforeTSC = 987_654
    }.history
    try expectBroken(id, history, "no reading of vcpu1", "2 steps back", "123456 ns", "TSC 987654")
    for other in Self.rules where other != id { try expectHolds(other, history) }
  }

  /// A history from a real host in which vCPU 1 read 14 ms less than vCPU 0 had read before held.
  @Test(arguments: [14_000_000, 1] as [UInt64])
  func aReadingBelowAnotherVCPUsEarlierOneIsBroken(step: UInt64) throws {
    var host = Self.contend()
    host.register(0)
    host.enter(1)
    for id in [0, 1] { host.read(id) }
    let last = host.events.count - 1
    guard case .read(_, _, let earlier, _) = host.events[last - 1].action,
      case .read(let address, let ring, var later, let settled) = host.events[last].action
    else { return }
    later.page.systemTime &-= later.value &- earlier.value &+ step
    host.events[last].action = .read(
      address: address, ring: ring, reading: later, settled: settled)
    try expectBroken(
      "MONO-CROSS-VCPU", host.history, "vcpu1's reading at or above \(earlier.value) ns",
      "a step of \(nanoseconds(-Int128(step)))")
    let rule = try #require(Rule.named("MONO-CROSS-VCPU"))
    #expect(rule.everywhere)
  }

  @Test func readingsInTurnAreNoRace() throws {
    var host = HistoryBuilder(.contend)
    host.machine(0, 1)
    for id in [0, 1, 0, 1, 0, 1] { host.register(id) }
    try expectNotTested("MONO-CROSS-VCPU", host.history, "saw 0 racers")
  }

  /// Readings whose brackets overlap have no order, and another machine has another clock.
  @Test func readingsWithoutAnOrderAreNotCompared() throws {
    var host = Self.contend()
    host.register(0)
    host.enter(1)
    for id in [0, 1] { host.read(id) }
    let last = host.events.count - 1
    host.amend { $0.systemTime &-= 50_000 }
    host.events[last - 1].ended = host.events[last].ended
    try expectHolds("MONO-CROSS-VCPU", host.history)
    host = Self.contend()
    host.machine(0, 1)
    for id in [1, 0] { host.register(id) }
    try expectHolds("MONO-CROSS-VCPU", host.history)
  }

  @Test func withoutTheMasterClockOnlyMoreThanTheEntriesIsBroken() throws {
    for (step, isFault) in [(-2_000, false), (-90_000, true)] as [(Int64, Bool)] {
      let history = Self.contend { result, number, _ in
        if number == 3 { (result.backwards, result.worst) = (9, step) }
      }.history
      #expect(try judge("MONO-CROSS-NOSTABLE", history).isBroken == isFault)
    }
    let history = Self.contend { result, number, vcpu in
      if number == 3, vcpu == 0 { result.worst = -90_000 }
    }.history
    try expectBroken("MONO-CROSS-NOSTABLE", history, "-90000 ns", "too low")
  }

  /// One reading without bit 0 on one of the vCPUs makes a race one of those that the rule is about.
  @Test(arguments: [0, 1])
  func oneReadingWithoutBit0IsEnough(one: Int) throws {
    let history = Self.contend { result, number, vcpu in
      guard number == 3 else { return }
      result.unstable = vcpu == one ? 1 : 0
      result.worst = -90_000
    }.history
    try expectBroken("MONO-CROSS-NOSTABLE", history, "-90000 ns")
    let stable = Self.contend { result, _, _ in result.unstable = 0 }.history
    try expectNotTested("MONO-CROSS-NOSTABLE", stable, "saw 0 races without bit 0")
  }

  /// A record that was made during the race may run ahead by all of it.
  @Test func aRecordMadeDuringTheRaceIsNoFault() throws {
    let history = Self.contend { result, number, _ in
      if number == 3 { (result.versions, result.worst) = (1, -90_000) }
    }.history
    try expectHolds("MONO-CROSS-NOSTABLE", history)
  }

  /// Its own maximum is the largest all the time.
  @Test func oneThatRunsAheadMeetsNobody() throws {
    let history = Self.contend { result, number, vcpu in
      if number == 3, vcpu == 0 { result.foreign = 3 }
    }.history
    try expectHolds("MONO-CROSS-NOSTABLE", history)
  }

  @Test(arguments: rules)
  func racersThatNeverMetAreInconclusive(id: String) throws {
    var host = Self.contend { result, number, vcpu in
      result.foreign = vcpu == 0 || number == 3 ? 99 : 80_000
    }
    try expectInconclusive(id, host.history, "99 compared with another vCPU's", "needs two vCPUs")
    host.host(.lacking(what: "two CPUs to run on", evidence: "sched_getaffinity allows [1]"))
    try expectNotTested(id, host.history, "allows [1]")
  }

  @Test func withoutTheMasterClockBit0PromisesNothing() throws {
    let history = Self.contend(source: .hpet).history
    for id in Self.rules.dropLast() { try expectNotTested(id, history, "PVCLOCK_TSC_STABLE_BIT") }
    try expectHolds("MONO-CROSS-NOSTABLE", history)
  }
}

@Suite struct OldMSRStormTests {
  static let rule = "OLDMSR-STORM-MONO"

  static func storm(
    msr: UInt32 = MSR.systemTimeOld, _ change: (inout LoopResult) -> Void = { _ in },
    trace: (inout WatchResult) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.oldMSRStorm)
    host.machine(0, 1)
    host.register(0, msr: msr)
    host.register(1)
    host.together([(0, "rewriter"), (1, "sampler")], reads: 2000, change)
    host.sample(1, trace)
    return host
  }

  @Test func stepsWithinTheWritesHold() throws {
    try expectHolds(Self.rule, Self.storm().history)
    try expectHolds(Self.rule, Self.storm({ $0.backwards = 700 }).history)
  }

  @Test func aStepLargerThanTheWriteBeforeItIsBroken() throws {
    let history = Self.storm({ $0.excess = $0.excess.map { _ in 5_000 } }).history
    try expectBroken(Self.rule, history, "less the time that the write before it took", "5000 ns")
  }

  @Test func aReadersStepLargerThanItsRecordsMakingIsBroken() throws {
    let history = Self.storm(trace: { $0.stretches[3].page.systemTime &-= 50_000 }).history
    try expectBroken(Self.rule, history, "vcpu1's clock at version", "a step of -4")
  }

  /// The thread was preempted between the kernel's readings of the TSC and of its base: the record runs ahead.
  @Test func aStepAfterARecordThatTookLongToMakeHolds() throws {
    let history = Self.storm(trace: {
      let cycles = $0.stretches[3].firstTSC &- $0.stretches[2].lastTSC
      $0.stretches[3].page.tscTimestamp = $0.stretches[3].firstTSC &- cycles
      let lead = $0.stretches[3].page.scale.nanoseconds(cycles: cycles)
      $0.stretches[3].page.systemTime = $0.stretches[2].last &+ lead
    }).history
    try expectHolds(Self.rule, history)
  }

  @Test func tooFewWritesAreInconclusive() throws {
    try expectInconclusive(Self.rule, Self.storm({ $0.versions = 9 }).history, "9 writes")
    try expectInconclusive(
      Self.rule, Self.storm({ $0.witnessed = $0.witnessed.map { _ in 3 } }).history, "3 changes")
  }

  @Test func withTheMasterClockItIsNotTested() throws {
    try expectNotTested(Self.rule, Self.storm(msr: MSR.systemTime).history, "master-clock")
  }
}

@Suite struct SharedPageTests {
  static let rule = "SHARED-PAGE-SANE"

  static func storms(
    rounds: Int = 6, writes: UInt64 = 60, source: SimulatedTime.Source = .tsc,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.sharedPage, source: source)
    host.machine(0, 1)
    for _ in 0..<rounds {
      for id in [0, 1] { host.register(id, at: 0x18000) }
      host.storm(0, 1, writes: writes)
      host.look(0)
    }
    fault(&host)
    for id in [0, 1] { host.register(id, at: 0x18000) }
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aRecordThatOneOfThemWroteHolds(source: SimulatedTime.Source) throws {
    try expectHolds(Self.rule, Self.storms(source: source).history)
  }

  @Test func anOddVersionAtRestIsBroken() throws {
    let history = Self.storms { $0.amend { $0.version = 33 } }.history
    try expectBroken(Self.rule, history, "even version at rest", "version 33")
  }

  @Test func aTimeThatNobodyWasGivenIsBroken() throws {
    let history = Self.storms { $0.amend { $0.systemTime += TornTests.hour } }.history
    try expectBroken(Self.rule, history, "the time of the record at rest", "3600000000000 ns")
  }

  @Test func withoutTheMasterClockToo() throws {
    for step in [TornTests.hour, 0 &- TornTests.hour] {
      let history = Self.storms(source: .hpet) { $0.amend { $0.systemTime &+= step } }.history
      try expectBroken(Self.rule, history, "less system_time of the record at rest", "00.0 s) too ")
    }
  }

  /// A record of one vCPU alone is not shared.
  @Test func recordsThatAreNotSharedAreNotTested() throws {
    var host = HistoryBuilder(.sharedPage)
    host.machine(0, 1)
    for _ in 0..<6 {
      for id in [0, 1] { host.register(id) }
      host.storm(0, 1)
      host.look(0)
    }
    for id in [0, 1] { host.register(id) }
    try expectNotTested(Self.rule, host.history, "saw 0 records")
  }

  @Test func aClockThatRestartsIsBroken() throws {
    let history = Self.storms {
      $0.wait(milliseconds: 30)
      $0.restartClock()
    }.history
    try expectBroken(Self.rule, history, "the advance of vcpu0's reading", "too low")
  }

  @Test func tooFewWritesAreInconclusive() throws {
    try expectInconclusive(Self.rule, Self.storms(writes: 16).history, "[96, 96]", "needs 100")
  }
}

@Suite struct HopTests {
  static func hops(
    _ count: Int = 50, msrs: [UInt32] = [MSR.systemTime, MSR.systemTimeOld], cpus: Int = 2,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(.hop)
    host.machine(0)
    for msr in msrs {
      host.register(0, msr: msr)
      host.enter(0)
      host.read(0)
      for round in 0..<count {
        host.move(0, to: round % cpus)
        if round == 7 { fault(&host) }
        host.read(0)
      }
    }
    return host
  }

  @Test func timeGoesOnFromCPUToCPU() throws {
    try expectHolds("HOP", Self.hops().history)
    try expectHolds("HOP", Self.hops(80, msrs: [MSR.systemTimeOld]).history)
  }

  @Test(arguments: [-40_000, 40_000] as [Int64])
  func aStepAtAMoveIsBroken(step: Int64) throws {
    try expectBroken("HOP", Self.hops { $0.stepClock(by: step) }.history, "came to CPU 1", "too ")
  }

  @Test func aNewPairInMasterClockModeIsBroken() throws {
    var host = Self.hops()
    host.register(0)
    for _ in 0..<2 { host.enter(0) }
    host.read(0)
    host.move(0, to: 1)
    host.read(0)
    host.amend {
      $0.systemTime += 1000
      $0.tscTimestamp += 2596
    }
    try expectBroken("HOP", host.history, "the record as it was")
  }

  @Test func oneCPUOrFewMovesAreNotTested() throws {
    try expectNotTested("HOP", Self.hops(cpus: 1).history, "1 different CPUs")
    try expectNotTested("HOP", Self.hops(9).history, "at least 80")
  }
}

@Suite struct UnenteredTests {
  @Test func whatTheRecordSaysIsReportedForBothPlaces() throws {
    let outcome = try judge("STABLE-UNENTERED", Script.history(of: .unentered))
    guard case .observed(let value) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    #expect(value.contains("vcpu0 in user space: its record has bit 0 and is 3600.0 s behind"))
    #expect(value.contains("vcpu1 in KVM's own HLT: its record has bit 0 and is"))
  }

  @Test func aRecordWithoutBit0SaysNothing() throws {
    try expectNotTested("STABLE-UNENTERED", Script.history(of: .unentered, source: .hpet))
  }
}

@Suite struct ReadCostTests {
  @Test func theValueIsReported() throws {
    let outcome = try judge("READ-COST", Script.history(of: .readCost))
    guard case .observed(let value) = outcome else {
      Issue.record("\(outcome)")
      return
    }
    // 400000 cycles of 2596.118 MHz for 4096 readings, 320000 for the loads.
    #expect(value.contains("26.5 million readings a second, 37.6 ns each, 1.25 times"))
  }

  @Test func withoutTheFrequencyItIsNotTested() throws {
    var host = HistoryBuilder(.readCost)
    host.measure(0)
    try expectNotTested("READ-COST", host.history)
  }
}

extension HistoryBuilder {
  fileprivate mutating func measure(_ id: Int) {
    host(.measured(reads: 4096, cycles: 4096, bareCycles: 4096))
  }
}
