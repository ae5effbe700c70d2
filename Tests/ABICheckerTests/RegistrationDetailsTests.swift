import PVClock
import Testing

@testable import ABIChecker

@Suite struct RegistrationDetailsTests {
  static func broken(
    _ scenario: ScenarioName, _ change: (inout Action, _ at: Int, _ events: [Event]) -> Void
  ) -> History {
    FeatureEnforcementTests.broken(scenario, change)
  }

  // MARK: HOSTSET-REGISTERS

  @Test func aRecordThatTheHostRegisteredIsServed() throws {
    let history = Self.broken(.hostRegisters) { action, _, _ in
      guard case .page(1, let address, _) = action else { return }
      action = .page(
        vcpu: 1, address: address,
        page: ClockPage(bytes: [UInt8](repeating: 0xa5, count: ClockPage.size))!)
    }
    try expectBroken(
      "HOSTSET-REGISTERS", history,
      "a record of vcpu1 at 0x11000, which the host registered through 0x12",
      "system_time 11936128518282651045")
  }

  @Test(arguments: [true, false])
  func aRecordIsServedAtTheNextEntryNotBefore(isEntered: Bool) throws {
    var host = HistoryBuilder(.hostRegisters)
    host.machine(0, 1)
    for (round, msr) in [MSR.systemTime, MSR.systemTimeOld].enumerated() {
      for id in [0, 1] {
        let address = UInt64(0x10000 + id * 0x1000 + round * 0x200)
        host.fill(address, count: 32)
        host.hostWriteMSR(id, msr, address | 1)
        host.host(
          .page(vcpu: id, address: Hex(address), page: ClockPage(version: 0xa5a5_a5a5)))
        if isEntered { host.enter(id) }
        host.look(id)
      }
    }
    if isEntered {
      try expectHolds("HOSTSET-REGISTERS", host.history)
    } else {
      try expectNotTested("HOSTSET-REGISTERS", host.history)
    }
  }

  @Test func memoryThatWasNotFilledShowsNothing() throws {
    var history = Script.history(of: .hostRegisters)
    history.events.removeAll { if case .filled = $0.action { true } else { false } }
    try expectNotTested("HOSTSET-REGISTERS", history)
  }

  // MARK: SYSTIME-ALIGN4

  /// The record lies `by` bytes lower than asked for where that is no multiple of `unit`.
  static func misaligned(_ unit: Int, dropped: Bool) -> History {
    broken(.align4) { action, _, _ in
      guard case .memory(let address, var hex) = action else { return }
      let by = Int((address.value + 64) % UInt64(unit))
      guard by != 0 else { return }
      let record = hex.bytes[64..<96]
      hex.bytes.replaceSubrange(64..<96, with: repeatElement(0xa5, count: 32))
      if !dropped { hex.bytes.replaceSubrange(64 - by..<96 - by, with: record) }
      action = .memory(address: address, bytes: hex)
    }
  }

  @Test(arguments: [8, 32, 64])
  func anAddressThatIsRoundedDownIsBroken(unit: Int) throws {
    try expectBroken(
      "SYSTIME-ALIGN4", Self.misaligned(unit, dropped: false),
      "of its page, and 0xa5 around it", "is not 0xa5")
  }

  @Test func aRegistrationThatIsDroppedIsBroken() throws {
    try expectBroken(
      "SYSTIME-ALIGN4", Self.misaligned(32, dropped: true), "offset 0x550 of its page",
      "version 2779096485")
  }

  @Test func aByteBesideARecordIsBroken() throws {
    for at in [0, 63, 96, 159] {
      let history = Self.broken(.align4) { action, _, _ in
        guard case .memory(0x20fa0, var hex) = action else { return }
        hex.bytes[at] = 0
        action = .memory(address: 0x20fa0, bytes: hex)
      }
      try expectBroken(
        "SYSTIME-ALIGN4", history, "a record at 0x20fe0",
        "byte at \(Hex(UInt64(0x20fa0 + at))) is not 0xa5")
    }
  }

  @Test func everyOffsetIsNeeded() throws {
    var history = Script.history(of: .align4)
    history.events.removeAll { if case .memory(0x20480, _) = $0.action { true } else { false } }
    try expectNotTested("SYSTIME-ALIGN4", history, "saw 1016 different offsets")
  }

  @Test func aFaultAtAnAlignedAddressIsBroken() throws {
    let history = Self.broken(.align4) { action, _, _ in
      guard case .wroteMSR(let msr, 0x20009, _) = action else { return }
      action = .wroteMSR(msr: msr, value: 0x20009, fault: HistoryBuilder.gp)
    }
    try expectBroken("SYSTIME-ALIGN4", history, "no fault from a write of 0x20009", "vector 13")
  }

  // MARK: SYSTIME-UNBACKED-NOFAULT

  static let unbacked = "SYSTIME-UNBACKED-NOFAULT"

  @Test func aFaultOrAnExitIsBroken() throws {
    let faulted = Self.broken(.unbacked) { action, _, _ in
      guard case .wroteMSR(let msr, 0x1_0000_0001, _) = action else { return }
      action = .wroteMSR(msr: msr, value: 0x1_0000_0001, fault: HistoryBuilder.gp)
    }
    try expectBroken(
      Self.unbacked, faulted,
      "no fault from a write of 0x100000001 to 0x4b564d01, which is outside of memory",
      "exception vector 13")
    var host = HistoryBuilder(.unbacked)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    host.copyMemory()
    host.bracketed(.vcpu(0)) { _ in [.stopped(exit: "internalError")] }
    try expectBroken(Self.unbacked, host.history, "no exit from vcpu0's", "internalError")
  }

  @Test func anotherValueReadBackIsBroken() throws {
    let history = Self.broken(.unbacked) { action, _, _ in
      guard case .readMSR(let msr, 0x1_0000_0001, nil) = action else { return }
      action = .readMSR(msr: msr, value: 0, fault: nil)
    }
    try expectBroken(Self.unbacked, history, "0x100000001 read back from 0x4b564d01", "0x0")
  }

  /// Address 0, the record that vCPU 0 gave up, bytes beside the live record of vCPU 1.
  @Test(arguments: [
    MemoryRange(address: 0, count: 32), MemoryRange(address: 0x10000, count: 4),
    MemoryRange(address: 0x11000, count: 33), MemoryRange(address: 0x10fff, count: 1),
    MemoryRange(address: 0x4fff, count: 2),
  ])
  func aStrayWriteIsBroken(run: MemoryRange) throws {
    let history = Self.broken(.unbacked) { action, _, _ in
      guard case .memoryChanged(let runs, let except) = action else { return }
      action = .memoryChanged(runs: runs + [run], except: except)
    }
    try expectBroken(
      Self.unbacked, history, "changes only in records",
      "\(run.count) bytes changed from \(run.address)")
  }

  @Test func whatCPUsWriteIsNotKVMs() throws {
    let history = Self.broken(.unbacked) { action, _, _ in
      guard case .memoryChanged(let runs, let except) = action else { return }
      action = .memoryChanged(
        runs: runs + [MemoryRange(address: 0x2000, count: 1)], except: except)
    }
    try expectHolds(Self.unbacked, history)
  }

  @Test func memoryInWhichNothingChangesProvesNothing() throws {
    let history = Self.broken(.unbacked) { action, _, _ in
      guard case .memoryChanged(_, let except) = action else { return }
      action = .memoryChanged(runs: [], except: except)
    }
    try expectNotTested(Self.unbacked, history, "no other vCPU's record changed")
  }

  // MARK: SCRIBBLE-REPAIRED

  static let repaired = "SCRIBBLE-REPAIRED"

  /// Each record after a scribble, changed before it is seen.
  static func unrepaired(_ change: (inout ClockPage) -> Void) -> History {
    broken(.scribble) { action, at, events in
      guard at > 0, case .read(let address, let ring, var reading, true) = action,
        case .wroteMSR = events[at - 1].action, at > 10, case .poked = events[at - 2].action
      else { return }
      change(&reading.page)
      action = .read(address: address, ring: ring, reading: reading, settled: true)
    }
  }

  @Test func aFieldThatTheUpdateLeavesIsBroken() throws {
    let changes: [((inout ClockPage) -> Void, String)] = [
      ({ $0.pad0 = 1 }, "pad0 0x1"), ({ $0.pad = 0xffff }, "pad 0xffff"),
      ({ $0.tscTimestamp = 3 << 32 | 2 }, "tsc_timestamp 12884901890"),
      ({ $0.systemTime = 5 << 32 | 4 }, "system_time 21474836484"),
      ({ $0.tscToSystemMultiplier = 6 }, "tsc_to_system_mul 0x6"),
      ({ $0.tscShift = 0x33 }, "tsc_shift 51"),
      ({ $0.version = 0xffff_ffff }, "version 4294967295"),
      ({ $0.flags.insert(.countsFromZero) }, "flags 0x5"),
      ({ $0.flags.formSymmetricDifference(.guestStopped) }, "bit 1 and no other"),
      ({ $0.flags = [] }, "flags 0x0"),
    ]
    for (change, text) in changes {
      try expectBroken(Self.repaired, Self.unrepaired(change), text)
    }
  }

  @Test func anotherTimeIsBroken() throws {
    try expectBroken(
      Self.repaired, Self.unrepaired { $0.systemTime &+= 50_000_000 },
      "the advance of vcpu0's reading from",
      "too high")
  }

  @Test func theStableBitIsAnothersBusiness() throws {
    try expectHolds(Self.repaired, Self.unrepaired { $0.flags.remove(.tscStable) })
  }

  @Test func aRecordThatWasNotOverwrittenWhollyProvesNothing() throws {
    var history = Script.history(of: .scribble)
    history.events.removeAll {
      if case .poked(let at, _) = $0.action { at.value % 32 == 12 } else { false }
    }
    try expectNotTested(Self.repaired, history, "records repaired")
  }

  // MARK: SYSTIME-REWRITE-MASTER-EXACT

  static let exact = "SYSTIME-REWRITE-MASTER-EXACT"

  /// The records of vCPU 0, each changed by how many came before it.
  static func rewritten(_ change: (inout ClockPage, Int) -> Void) -> History {
    var count = 0
    return broken(.rewriteExact) { action, _, _ in
      guard case .page(0, let address, var page) = action else { return }
      change(&page, count)
      count += 1
      action = .page(vcpu: 0, address: address, page: page)
    }
  }

  @Test func oneNanosecondIsAStep() throws {
    try expectBroken(
      Self.exact, Self.rewritten { $0.systemTime += $1 > 100 ? 1 : 0 }, "a step of 1 ns")
  }

  /// Each write loses a nanosecond.
  @Test func slipsAddUp() throws {
    try expectBroken(
      Self.exact, Self.rewritten { $0.systemTime -= UInt64($1) }, "a step of -1 ns",
      "a step of -20 ns")
  }

  @Test func anotherScaleIsBroken() throws {
    try expectBroken(
      Self.exact, Self.rewritten { $0.tscToSystemMultiplier -= $1 > 100 ? 1 : 0 },
      "tsc_to_system_mul")
  }

  /// A snapshot at every write, of a clock that does not drift: no step, and a new pair all the same.
  @Test func aNewSnapshotOnTheSameLineIsBroken() throws {
    let history = Self.rewritten { page, count in
      let cycles = UInt64(count) * 2_596_118
      page.systemTime = page.systemTime(atTSC: page.tscTimestamp &+ cycles)
      page.tscTimestamp &+= cycles
    }
    try expectBroken(Self.exact, history, "with the pair and the scale", "a new snapshot")
  }

  @Test func aNewSnapshotIsAccusedOnlyIfTheWriteTookIt() throws {
    var host = HistoryBuilder(.rewriteExact)
    Script.rewriteExact(&host)
    host.wait(milliseconds: 5000)
    host.register(0, msr: MSR.systemTimeOld)
    host.register(0)
    for _ in 0..<4 {
      for id in [0, 1] {
        host.run(id, .write(MSR.systemTime, host.vcpus[id]!.msr))
        host.look(id)
      }
    }
    try expectHolds(Self.exact, host.history)
  }

  @Test func fewWritesProveNothing() throws {
    var history = Script.history(of: .rewriteExact)
    history.events.removeLast(200)
    try expectNotTested(Self.exact, history, "needs at least 500")
  }

  /// 600 snapshots in some milliseconds: no two of them are a nanosecond apart.
  @Test func aSnapshotAtEachWriteIsBroken() throws {
    var host = HistoryBuilder(.rewriteExact)
    host.machine(0, 1)
    for id in [0, 1] { host.register(id) }
    for id in [0, 1, 0, 1] { host.enter(id) }
    for _ in 0..<300 {
      for id in [0, 1] {
        host.takePair()
        host.run(id, .write(MSR.systemTime, host.vcpus[id]!.msr))
        host.look(id)
      }
    }
    try expectBroken(Self.exact, host.history, "with the pair and the scale", "a new snapshot")
  }

  @Test func bothVCPUsAreNeeded() throws {
    var history = Script.history(of: .rewriteExact)
    let event = try #require(history.events.first { $0.action == .vcpuCreated(vcpu: 1) })
    var other = event
    other.action = .vcpuCreated(vcpu: 2)
    history.events.insert(other, at: event.number)
    try expectNotTested(Self.exact, history, "vcpu2")
  }

  // MARK: Coverage

  @Test func eachMSRAndEachVCPUOfTheHostsRegistrationsIsNeeded() throws {
    for (msrs, ids, missing) in [
      ([MSR.systemTime], [0, 1], "did not see 0x12"),
      ([MSR.systemTime, MSR.systemTimeOld], [0], "did not see vcpu1"),
    ] {
      var host = HistoryBuilder(.hostRegisters)
      host.machine(0, 1)
      for round in 0..<4 {
        for id in ids {
          let address = UInt64(0x10000 + id * 0x1000 + round * 0x200)
          host.fill(address, count: 32)
          host.hostWriteMSR(id, msrs[round % msrs.count], address | 1)
          host.enter(id)
          host.look(id)
        }
      }
      try expectNotTested("HOSTSET-REGISTERS", host.history, missing)
    }
  }

  @Test(arguments: [true, false])
  func anUnbackedRegistrationFromARecordAndFromNoneIsNeeded(hadRecord: Bool) throws {
    var host = HistoryBuilder(.unbacked)
    host.machine(0, 1)
    host.register(1)
    for address: UInt64 in [1 << 32, 0x20_0000, 0xffff_ffff_ffff_f000, 1 << 63] {
      if hadRecord { host.register(0) }
      host.run(0, .write(MSR.systemTime, address | 1))
      host.copyMemory()
      host.setClock(address)
      for id in [0, 1, 0] { host.enter(id) }
      for _ in 0..<3 { host.run(0, .readMSR(MSR.systemTime)) }
      host.compareMemory()
      if !hadRecord { host.run(0, .write(MSR.systemTime, 0)) }
    }
    try expectNotTested(
      Self.unbacked, host.history, "did not see \(hadRecord ? "no record" : "a record")")
  }

  @Test func fourAddressesOutsideOfMemoryAreNeeded() throws {
    var history = Script.history(of: .unbacked)
    for at in history.events.indices {
      switch history.events[at].action {
      case .wroteMSR(let msr, let value, nil) where value.value >= 0x20_0000:
        history.events[at].action = .wroteMSR(msr: msr, value: 0x1_0000_0001, fault: nil)
      case .readMSR(let msr, let value, nil) where value.value >= 0x20_0000:
        history.events[at].action = .readMSR(msr: msr, value: 0x1_0000_0001, fault: nil)
      default: continue
      }
    }
    try expectNotTested(Self.unbacked, history, "saw 1 different addresses")
  }

  @Test func bothKindsOfVersionAreNeeded() throws {
    var history = Script.history(of: .scribble)
    for at in history.events.indices {
      guard case .poked(let address, 0xffff_ffff) = history.events[at].action else { continue }
      history.events[at].action = .poked(address: address, value: 0xffff_fff0)
    }
    try expectNotTested(Self.repaired, history, "versions that the guest wrote", "odd")
  }

  /// KVM_KVMCLOCK_CTRL sets bit 1 in the update that repairs the record.
  @Test func aGuestThatWasToldThatItWasStoppedIsNoFault() throws {
    var host = HistoryBuilder(.scribble)
    host.machine(0)
    host.register(0)
    host.scribble(0, [8, 1, 2, 3, 4, 5, 6, 0xffff_0033])
    host.run(0, .write(MSR.systemTime, 0x10001))
    host.host(.toldStopped(vcpu: 0, errno: .none))
    host.look(0)
    host.amend { $0.flags.insert(.guestStopped) }
    #expect(try !judge(Self.repaired, host.history).isBroken)
  }
}
