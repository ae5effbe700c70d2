import PVClock
import Testing

@testable import ABIChecker

@Suite struct ClockBracketTests {
  static let rule = "CLOCK-BRACKET"

  /// Readings between two `KVM_GET_CLOCK`; `fault` acts before each reading.
  static func readings(
    source: SimulatedTime.Source = .tsc, bracket: UInt64 = 3_000,
    _ fault: (inout HistoryBuilder) -> Void = { _ in }
  ) -> HistoryBuilder {
    var host = HistoryBuilder(source: source)
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.bracket = bracket
    host.getClock()
    for id in [0, 1, 0, 1] {
      fault(&host)
      host.read(id)
      host.getClock()
    }
    return host
  }

  @Test(arguments: SimulatedTime.Source.allCases)
  func aReadingLiesBetween(source: SimulatedTime.Source) throws {
    try expectHolds(Self.rule, Self.readings(source: source).history)
  }

  @Test(arguments: [1, 1000, 1 << 40] as [Int64])
  func oneNanosecondOutsideIsBroken(by nanoseconds: Int64) throws {
    var host = Self.readings()
    guard case .getClock(let before) = host.events[host.events.count - 3].action,
      case .getClock(let after) = host.events[host.events.count - 1].action,
      case .read(_, _, let reading, _) = host.events[host.events.count - 2].action
    else { return }
    let below = before.clock &- UInt64(nanoseconds)
    host.amend { $0.systemTime &-= reading.value &- below }
    try expectBroken(
      Self.rule, host.history, "vcpu1", "[0 ns, \(after.clock - before.clock) ns",
      "\(before.clock) ns before and \(after.clock) ns after", "-\(nanoseconds) ns")
    host.amend { $0.systemTime &+= after.clock &- below &+ UInt64(nanoseconds) }
    try expectBroken(Self.rule, host.history, "\(nanoseconds) ns", "too ")
  }

  @Test func aGetClockThatWentBackIsBroken() throws {
    let history = Self.readings { host in
      host.getClock()
      host.stepClock(by: -1_000_000)
    }.history
    try expectBroken(Self.rule, history, "KVM_GET_CLOCK at 39255 ns or above")
  }

  @Test func aVCPUThatNeverReadsIsNotTested() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    host.getClock()
    for _ in 0..<8 {
      host.read(0)
      host.getClock()
    }
    try expectNotTested(Self.rule, host.history, "did not see vcpu1")
  }

  @Test func wideBracketsAreInconclusive() throws {
    try expectInconclusive(Self.rule, Self.readings(bracket: 50_000_000).history, "100.0 ms")
  }

  /// Each reading stands next to another setting of the clock than the KVM_GET_CLOCK before it.
  @Test func settingsAreNotComparedAcross() throws {
    let history = Self.readings { $0.setClock(1 << 60) }.history
    try expectNotTested(Self.rule, history)
  }

  /// The reading is of the old pair, 100 s old; KVM_GET_CLOCK after it of a new one, 4.3 us back.
  @Test func aNewPairAfterTheReadingIsNoFault() throws {
    var host = HistoryBuilder()
    host.bracket = 60
    host.machine(0)
    host.register(0)
    for _ in 0..<5 {
      host.wait(milliseconds: 100_000)
      host.getClock()
      host.read(0)
      host.isBootVCPUOnOldMSR.toggle()
      host.vcpus[0]?.wantsPair = true
      host.register(0, msr: host.isBootVCPUOnOldMSR ? MSR.systemTimeOld : MSR.systemTime)
      host.getClock()
    }
    #expect(try !judge(Self.rule, host.history).isBroken)
  }

  /// Without the master clock the record was made in an entry that lost the core for 50 ms.
  @Test func aRecordMayRunAheadByItsEntry() throws {
    var host = HistoryBuilder(source: .hpet)
    host.machine(0)
    for _ in 0..<5 {
      host.getClock()
      host.time.noise = .always(2_000_000)
      host.register(0)
      host.time.noise = .none
      host.read(0)
      host.getClock()
    }
    #expect(try !judge(Self.rule, host.history).isBroken)
  }
}

@Suite struct MulShiftTests {
  static let rule = "MULSHIFT-EXACT"

  static func records(_ change: (inout ClockPage) -> Void = { _ in }) -> History {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.amend(0, change)
    return host.history
  }

  @Test func theKernelsPairHolds() throws {
    try expectHolds(Self.rule, Self.records())
  }

  @Test func oneBitIsBroken() throws {
    try expectBroken(
      Self.rule, Self.records { $0.tscToSystemMultiplier += 1 }, "2596118 kHz", "0xc537b08f",
      "0xc537b090", "tsc_shift -1")
    try expectBroken(
      Self.rule, Self.records { $0.tscShift += 1 }, "tsc_shift -1", "tsc_shift 0")
  }

  /// The same rate, not normalized.
  @Test func halfTheMultiplierAndTwiceTheShiftIsBroken() throws {
    try expectBroken(
      Self.rule,
      Self.records {
        $0.tscToSystemMultiplier >>= 1
        $0.tscShift += 1
      }, "0x629bd847")
  }

  /// A second machine whose TSC has another frequency.
  @Test func aFrequencyBelongsToItsMachine() throws {
    var host = HistoryBuilder()
    for kHz in [SimulatedTime.tscKHz, 2_000_000] {
      host.createMachine()
      host.vcpus[0] = HistoryBuilder.VCPU(tscOffset: 0)
      host.host(.vcpuCreated(vcpu: 0))
      host.host(.tscKHz(vcpu: 0, kHz: kHz))
      for place in 0..<2 {
        host.register(0)
        let scale = TSCScale(tscKHz: kHz)
        host.amend { ($0.tscToSystemMultiplier, $0.tscShift) = (scale.multiplier, scale.shift) }
        _ = place
      }
    }
    for id in [Self.rule, "MULSHIFT-TSCKHZ"] { try expectHolds(id, host.history) }
  }

  @Test func anUnknownFrequencyIsNotTested() throws {
    var host = HistoryBuilder()
    host.createMachine()
    host.vcpus[0] = HistoryBuilder.VCPU(tscOffset: 0)
    for _ in 0..<3 { host.register(0) }
    try expectNotTested(Self.rule, host.history)
    host.host(.tscKHz(vcpu: 0, kHz: 0))
    try expectNotTested(Self.rule, host.history)
  }
}

@Suite struct GlobalPairTests {
  static let rule = "SYSTIME-GLOBAL-PAIR"

  static func looks(
    offsets: [UInt64?] = [7, 7], reenters: Bool = true,
    _ change: (inout HistoryBuilder) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder()
    host.createMachine()
    for id in [0, 1] {
      host.createVCPU(id, tscOffset: offsets[id] ?? 7)
      if offsets[id] == nil { host.events.removeLast() }
    }
    for id in reenters ? [0, 1, 0] : [0, 1] { host.register(id) }
    for id in [0, 1] { host.look(id) }
    change(&host)
    host.look(0)
    return host.history
  }

  @Test func onePairHoldsWhateverTheOffsets() throws {
    for offsets: [UInt64?] in [[7, 7], [1 << 63, 3], [nil, nil], [.max, 0]] {
      try expectHolds(Self.rule, Self.looks(offsets: offsets))
    }
  }

  @Test func anotherPairIsBroken() throws {
    try expectBroken(
      Self.rule, Self.looks { $0.amend { $0.systemTime += 1 } }, "vcpu1's record", "system_time")
    try expectBroken(
      Self.rule, Self.looks { $0.amend { $0.tscTimestamp += 1 } }, "TSC offset 7",
      "tsc_timestamp")
    try expectBroken(
      Self.rule, Self.looks { $0.amend { $0.tscToSystemMultiplier += 1 } }, "0xc537b090")
  }

  /// vCPU 1's first entry takes a new pair; until vCPU 0 enters again, its record keeps the old one.
  @Test func aRecordThatWasNotUpdatedYetIsNoFault() throws {
    try expectNotTested(Self.rule, Self.looks(reenters: false), "old")
  }

  @Test func aRecordThatChangedBetweenIsNotCompared() throws {
    try expectNotTested(
      Self.rule,
      Self.looks { host in
        host.setClock(9)
        host.enter(0)
      })
  }

  /// The sentence says "all vCPUs".
  @Test func aVCPUWithoutALookIsNotTested() throws {
    var host = HistoryBuilder()
    host.machine(0, 1, 2)
    for id in [0, 1, 2, 0, 1] { host.register(id) }
    for id in [0, 1, 0] { host.look(id) }
    try expectNotTested(Self.rule, host.history, "did not see vcpu2")
  }

  /// vCPU 1's record at the address that it has left is an old one.
  @Test func aRecordThatWasGivenUpIsNotCompared() throws {
    var host = HistoryBuilder()
    host.machine(0, 1)
    for id in [0, 1, 0] { host.register(id) }
    for id in [0, 1, 0] { host.look(id) }
    host.register(1, at: 0x20000)
    host.setClock(5)
    for id in [0, 1] { host.enter(id) }
    host.look(0)
    host.look(1, at: 0x11000)
    host.look(0)
    try expectHolds(Self.rule, host.history)
  }

  @Test func oneUnknownOffsetIsNotTakenForZero() throws {
    try expectNotTested(Self.rule, Self.looks(offsets: [7, nil]))
  }

  @Test func offsetsBelongToTheirMachine() throws {
    var host = HistoryBuilder()
    host.events = Self.looks(offsets: [5, 5]).events
    host.createMachine()
    host.createVCPU(0, tscOffset: 900)
    try expectHolds(Self.rule, host.history)
  }

  @Test func withoutTheMasterClockItIsNotTested() throws {
    try expectNotTested(
      Self.rule,
      Self.looks { host in
        for place in [0, 1] { host.amend(place) { $0.flags = [] } }
      }, "PVCLOCK_TSC_STABLE_BIT")
  }
}

@Suite struct DerivedFrequencyTests {
  static let rule = "MULSHIFT-TSCKHZ"

  @Test func theKernelsPairHolds() throws {
    try expectHolds(Self.rule, MulShiftTests.records())
  }

  /// A quarter of a ppb more, and the division falls below the whole number: the shift makes two kHz of it.
  @Test func aMultiplierOneTooLargeIsBroken() throws {
    try expectBroken(
      Self.rule, MulShiftTests.records { $0.tscToSystemMultiplier += 1 }, "2596116 kHz")
  }

  @Test(arguments: [2_596_000, 2_596_418, 2_596_114, 2_596_122] as [UInt32])
  func anotherFrequencyIsBroken(kHz: UInt32) throws {
    let history = MulShiftTests.records { page in
      let scale = TSCScale(tscKHz: kHz)
      (page.tscToSystemMultiplier, page.tscShift) = (scale.multiplier, scale.shift)
    }
    try expectBroken(Self.rule, history, "2596117 to 2596119 kHz", "\(kHz) kHz")
  }

  @Test func aMultiplierOfZeroIsBroken() throws {
    try expectBroken(
      Self.rule, MulShiftTests.records { $0.tscToSystemMultiplier = 0 }, "the multiplier is 0")
  }

  /// 4.5 GHz takes a shift of -2: three kHz may be lost, and no more.
  @Test(arguments: [(4_500_003, true), (4_500_004, false)] as [(UInt32, Bool)])
  func whatTheShiftLosesIsAllowed(kHz: UInt32, holds: Bool) throws {
    var host = HistoryBuilder()
    host.machine(0)
    host.host(.tscKHz(vcpu: 0, kHz: kHz))
    for _ in 0..<2 { host.register(0) }
    let scale = TSCScale(tscKHz: 4_500_000)
    for place in [0, 1] {
      host.amend(place) {
        ($0.tscToSystemMultiplier, $0.tscShift) = (scale.multiplier, scale.shift)
      }
    }
    #expect(scale.shift == -2)
    #expect(try judge(Self.rule, host.history).isBroken != holds)
  }

  @Test func aHostileShiftTrapsNothing() throws {
    for shift in [Int8.min, .max] {
      _ = try judge(Self.rule, MulShiftTests.records { $0.tscShift = shift })
    }
  }
}
