import Testing

@testable import ABIChecker

@Suite struct MemoryTests {
  static let served = "SYSTIME-CROSSPAGE-SERVED"
  static let noStale = "SYSTIME-CROSSPAGE-NO-STALE"
  static let noStray = "SYSTIME-CROSSPAGE-NO-STRAY"
  static let slot = "SYSTIME-SLOT-SERVED"
  static let delete = "SLOT-DELETE-NO-STALE"
  static let readd = "SLOT-READD-SERVED"
  static let remap = "HVA-REMAP-SERVED"
  static let readOnly = "READONLY-SLOT-UNTOUCHED"
  static let late = "SYSTIME-UNBACKED-LATE-MAP"

  /// A machine whose vCPU 1 has a live record, and what a scenario does with it.
  static func history(
    _ scenario: ScenarioName, _ fault: SimulatedMemory.Fault? = nil,
    _ script: (inout HistoryBuilder) -> Void
  ) -> History {
    var host = HistoryBuilder(scenario)
    host.machineInMemory(fault)
    script(&host)
    return host.history
  }

  // MARK: Across two pages

  /// vCPU 0 leaves 0x10000, or nothing, for a record across two pages.
  static func crossing(
    _ fault: SimulatedMemory.Fault? = nil, isOff: Bool = false, enter: [Int] = [0, 1],
    _ change: (inout [MemoryChange]) -> Void = { _ in }
  ) -> History {
    var host = HistoryBuilder(.crossPage)
    host.machineInMemory(fault, registering: isOff ? [1] : [0, 1])
    for round in 0..<3 {
      // The first time there is nothing to give up.
      if !isOff || round > 0 { host.register(0) }
      if isOff && round > 0 { host.run(0, .write(MSR.systemTime, 0)) }
      host.run(0, .write(MSR.systemTime, 0x22ff1))
      host.update(enter, change)
      if isOff { host.run(0, .write(MSR.systemTime, 0)) }
    }
    return host.history
  }

  @Test func aRecordAcrossTwoPagesIsServed() throws {
    for id in [Self.served, Self.noStale] { try expectHolds(id, Self.crossing()) }
    for id in [Self.served, Self.noStray] { try expectHolds(id, Self.crossing(isOff: true)) }
  }

  @Test func aRecordAcrossTwoPagesThatIsRefusedIsBroken() throws {
    try expectBroken(
      Self.served, Self.crossing(.refusesCrossing, isOff: true), "vcpu0's record at 0x22ff0",
      "32 bytes from 0x22ff0 of the RAM", "32 bytes from 0x11000 of the RAM changed")
    try expectHolds(Self.noStray, Self.crossing(.refusesCrossing, isOff: true))
  }

  @Test func aFormerRecordThatIsUpdatedIsBroken() throws {
    try expectBroken(
      Self.noStale, Self.crossing(.refusesCrossing),
      "vcpu0's former record, 32 bytes from 0x10000 of the RAM",
      "32 bytes from 0x10000 of the RAM")
  }

  @Test func oneByteOfTheFormerRecordIsEnough() throws {
    let history = Self.crossing {
      $0.append(MemoryChange(memory: 0, offset: 0x1001f, bytes: [1]))
    }
    try expectBroken(Self.noStale, history, "1 bytes from 0x1001f of the RAM")
    #expect(try !judge(Self.served, history).isBroken)
  }

  @Test func aRecordWrittenAtAStaleAddressIsBroken() throws {
    try expectBroken(
      Self.noStray, Self.crossing(.strays, isOff: true), "outside of the registered records",
      "32 bytes from 0x10000 of the RAM")
    let fromNothing = Self.history(.crossPage, .strays) { host in
      host.machine(0, 1)
      host.memory.fault = .strays
      host.setSlot(0, at: 0, 0, size: 0x20_0000)
      host.register(1)
      host.run(0, .write(MSR.systemTime, 0x22ff1))
      host.update()
    }
    try expectBroken(Self.noStray, fromNothing, "32 bytes from 0x0 of the RAM")
  }

  @Test func aByteAnywhereIsStray() throws {
    try expectBroken(
      Self.noStray,
      Self.crossing(isOff: true) {
        $0.append(MemoryChange(memory: 0, offset: 0x23010, bytes: [1]))
      },
      "1 bytes from 0x23010 of the RAM")
  }

  @Test func withoutAWitnessNothingIsShown() throws {
    for isOff in [false, true] {
      let history = Self.crossing(.refusesCrossing, isOff: isOff, enter: [0]) { $0 = [] }
      try expectNotTested(isOff ? Self.noStray : Self.noStale, history, "no other vCPU's record")
    }
  }

  @Test func withoutAnEntryOfItsOwnerNothingIsShown() throws {
    let history = Self.crossing(.refusesCrossing, enter: [1]) { $0 = [] }
    for id in [Self.served, Self.noStale, Self.noStray] { try expectNotTested(id, history) }
  }

  // MARK: Slots

  static func inSlot(
    _ fault: SimulatedMemory.Fault? = nil, at page: UInt64 = 0x1_0000_0000,
    _ change: (inout [MemoryChange]) -> Void = { _ in }
  ) -> History {
    history(.slots, fault) { host in
      // In the other half of the address space all is well.
      host.setSlot(2, at: page < 1 << 32 ? 1 << 40 : 0x3000_0000, 8)
      host.setSlot(1, at: page, 7)
      for slot in [1, 2] {
        let start = host.memory.slots[slot]!.address
        for offset: UInt64 in [0, 64, 128, 0x3fe0] {
          host.run(0, .write(MSR.systemTime, start + offset | 1))
          host.update([0, 1]) { if slot == 1 { change(&$0) } }
        }
      }
    }
  }

  @Test func aRecordInAnySlotIsServed() throws {
    for page: UInt64 in [0x20_0000, 0x1000_0000, 0x1_0000_0000, 1 << 63] {
      try expectHolds(Self.slot, Self.inSlot(at: page))
    }
  }

  @Test func aRecordInASlotThatIsNotServedIsBroken() throws {
    try expectBroken(
      Self.slot, Self.inSlot { $0.removeAll { $0.memory == 7 } },
      "vcpu0's record at 0x100003fe0", "32 bytes from 0x3fe0 of memory 7",
      "32 bytes from 0x11000 of the RAM changed")
    try expectBroken(Self.slot, Self.inSlot { $0 = [] }, "no change")
  }

  @Test func aWriteBesideTheRecordIsBroken() throws {
    try expectBroken(
      Self.slot,
      Self.inSlot { $0.append(MemoryChange(memory: 7, offset: 0x1000, bytes: [1, 2])) },
      "nothing beside it", "2 bytes from 0x1000 of memory 7")
    let longer = Self.inSlot { changes in
      for at in changes.indices where changes[at].memory == 7 {
        changes[at].bytes.bytes.append(0)
      }
    }
    try expectBroken(Self.slot, longer, "33 bytes from 0x0 of memory 7")
  }

  /// vCPU 0's slot goes and comes back with other memory.
  static func exchange(
    _ fault: SimulatedMemory.Fault? = nil, enter: [Int] = [0, 1],
    _ change: (inout [MemoryChange]) -> Void = { _ in }
  ) -> History {
    history(.slots, fault) { host in
      host.setSlot(3, at: 0x2000_0000, 1)
      host.register(0, at: 0x2000_0100)
      for memory in [2, 3] {
        host.removeSlot(3)
        host.update(enter, change)
        host.setSlot(3, at: 0x2000_0000, memory)
        host.update(enter)
      }
    }
  }

  @Test func memoryThatWentAwayIsLeftAlone() throws {
    for id in [Self.delete, Self.readd] { try expectHolds(id, Self.exchange()) }
  }

  @Test func memoryThatWentAwayAndIsWrittenIsBroken() throws {
    try expectBroken(
      Self.delete, Self.exchange(.keepsPlace), "vcpu0's record was at 0x20000100",
      "32 bytes from 0x100 of memory 1")
    try expectBroken(
      Self.readd, Self.exchange(.keepsPlace), "32 bytes from 0x100 of memory 2, and nothing beside",
      "32 bytes from 0x100 of memory 1")
    try expectBroken(
      Self.delete,
      Self.exchange { $0.append(MemoryChange(memory: 1, offset: 0x3fff, bytes: [0])) },
      "1 bytes from 0x3fff of memory 1")
  }

  @Test func aRecordThatStaysDeadIsBroken() throws {
    try expectHolds(Self.delete, Self.exchange(.forgetsPlace))
    try expectBroken(Self.readd, Self.exchange(.forgetsPlace), "32 bytes from 0x100 of memory 3")
  }

  @Test func aDeletedSlotWithoutAWitnessShowsNothing() throws {
    try expectNotTested(Self.delete, Self.exchange(enter: [0]), "no other vCPU's record")
    for id in [Self.delete, Self.readd] { try expectNotTested(id, Self.exchange(enter: [1])) }
  }

  static func remapped(_ fault: SimulatedMemory.Fault? = nil) -> History {
    history(.slots, fault) { host in
      host.setSlot(3, at: 0x2000_0000, 1)
      host.register(0, at: 0x2000_0100)
      for memory in [2, 3] {
        host.remap(1, shows: memory)
        host.update()
      }
    }
  }

  @Test func otherPagesAtTheSlotsAddressAreServed() throws {
    try expectHolds(Self.remap, Self.remapped())
    try expectNotTested(Self.readd, Self.remapped())
  }

  @Test func theOldPagesWrittenAreBroken() throws {
    try expectBroken(
      Self.remap, Self.remapped(.keepsPlace), "32 bytes from 0x100 of memory 2, and nothing beside",
      "32 bytes from 0x100 of memory 1")
    try expectBroken(Self.remap, Self.remapped(.forgetsPlace), "of memory 3, and nothing beside")
  }

  static func inReadOnlySlot(
    _ fault: SimulatedMemory.Fault? = nil, flags: UInt64 = 2, enter: [Int] = [0, 1]
  ) -> History {
    history(.slots, fault) { host in
      host.setSlot(5, at: 0x3000_0000, 9, flags: flags)
      for msr in [MSR.systemTime, MSR.systemTimeOld] {
        host.run(0, .write(msr, 0x3000_0041))
        host.update(enter)
      }
    }
  }

  @Test func readOnlyMemoryStaysAsItIs() throws {
    try expectHolds(Self.readOnly, Self.inReadOnlySlot())
  }

  @Test func readOnlyMemoryThatIsWrittenIsBroken() throws {
    try expectBroken(
      Self.readOnly, Self.inReadOnlySlot(.writesReadOnly), "registered at 0x30000040",
      "32 bytes from 0x40 of memory 9")
  }

  @Test func aRegistrationInReadOnlyMemoryThatFaultsIsBroken() throws {
    var history = Self.inReadOnlySlot()
    for at in history.events.indices {
      if case .wroteMSR(let msr, let value, nil) = history.events[at].action, value == 0x3000_0041 {
        history.events[at].action = .wroteMSR(
          msr: msr, value: value, fault: Fault(vector: 13, errorCode: 0, address: 0x8010))
      }
    }
    try expectBroken(Self.readOnly, history, "a write of 0x30000041", "exception vector 13")
  }

  @Test func withoutReadOnlyMemoryNothingIsShown() throws {
    try expectNotTested(Self.readOnly, Self.inReadOnlySlot(flags: 0))
    try expectNotTested(Self.readOnly, Self.inReadOnlySlot(enter: [0]), "no other vCPU's record")
  }

  static func lateMemory(_ fault: SimulatedMemory.Fault? = nil) -> History {
    history(.slots, fault) { host in
      host.run(0, .write(MSR.systemTime, 0x2800_0001))
      host.update()
      host.setSlot(4, at: 0x2800_0000, 1)
      host.update()
    }
  }

  @Test func whetherLateMemoryIsServedIsReported() throws {
    for (fault, count) in [(nil, 1), (SimulatedMemory.Fault.forgetsPlace, 0)] {
      let outcome = try judge(Self.late, Self.lateMemory(fault))
      #expect(
        outcome
          == .observed(
            value: "updated without a write of the MSR in \(count) of 1 cases"))
    }
    try expectNotTested(Self.late, Self.inSlot(), "RAM appeared later")
  }

  // MARK: Any order

  /// An honest host is never accused, whatever the order in which memory comes and goes.
  @Test(arguments: SimulatedTime.Source.allCases)
  func noWalkBreaksARule(source: SimulatedTime.Source) {
    var seeds = SeededGenerator()
    for _ in 0..<200 {
      let seed = seeds.next()
      var random = SeededGenerator(seed: seed)
      let scenario = random.pick([.slots, .crossPage, .dirtyLog, .dirtyRing] as [ScenarioName])
      var host = HistoryBuilder(
        scenario, source: source, noise: .random(SeededGenerator(seed: seed ^ 1)))
      host.machineInMemory()
      for _ in 0..<random.below(60) {
        Self.step(&host, &random, hasRings: scenario == .dirtyRing)
      }
      let timeline = Timeline(host.history)
      for rule in Rule.all where rule.id != "RATE-RAW" {
        let outcome = rule.judge(timeline)
        #expect(!outcome.isBroken, "\(rule.id), seed \(seed): \(outcome)")
      }
    }
  }

  private static func step(
    _ host: inout HistoryBuilder, _ random: inout SeededGenerator, hasRings: Bool
  ) {
    let id = random.below(2)
    let slot = random.below(2) + 1
    let record =
      random.pick([0x20000, 0x10_0000, 0x1000_0000, 0x2000_0000] as [UInt64]) + UInt64(id) * 64
      + random.pick([0, 0x1000, 0xfe4])
    switch random.below(13) {
    case 0...2: host.run(id, .write(random.pick([MSR.systemTime, MSR.systemTimeOld]), record | 1))
    case 3: host.run(id, .write(MSR.systemTime, record))
    case 4...5:
      guard host.memory.slots[slot] == nil else { return host.removeSlot(slot) }
      host.setSlot(
        slot, at: UInt64(slot) << 28, random.below(3) + 1 + slot * 3,
        flags: UInt64(random.below(3)))
    case 6: host.remap(random.below(6) + 4, shows: random.below(6) + 10)
    case 7...9: host.update(random.pick([[0, 1], [1], [0], [1, 0]]))
    case 10 where hasRings: host.dirtyRings()
    case 10 where host.memory.slots[slot].map { $0.flags & 1 == 1 } ?? false: host.dirtyLog(slot)
    case 10...11: host.compare()
    default:
      if host.memory.slot(at: record, count: 12).map({ $0.flags & 2 == 0 }) ?? false {
        host.requestWall(id, at: record)
      }
    }
  }

  // MARK: Coverage

  @Test func neverRegisteredAndGivenUpAreBothNeeded() throws {
    for isNever in [true, false] {
      let history = Self.history(.crossPage) { host in
        host.machineInMemory(registering: isNever ? [1] : [0, 1])
        for _ in 0..<(isNever ? 1 : 3) {
          if !isNever { host.run(0, .write(MSR.systemTime, 0)) }
          host.run(0, .write(MSR.systemTime, 0x22ff1))
          for _ in 0..<3 { host.update() }
        }
      }
      try expectNotTested(Self.noStray, history, isNever ? "given up" : "never registered")
    }
  }

  @Test(arguments: [(0x1000_0000, "above"), (0x1_0000_0000, "below")] as [(UInt64, String)])
  func slotsBelowAndAbove4GiBAreNeeded(page: UInt64, missing: String) throws {
    let history = Self.history(.slots) { host in
      host.setSlot(1, at: page, 7)
      for offset: UInt64 in [0, 64, 128, 192, 256, 0x3fe0] {
        host.run(0, .write(MSR.systemTime, page + offset | 1))
        host.update()
      }
    }
    try expectNotTested(Self.slot, history, "first byte of a slot \(missing) 4 GiB")
  }

  @Test func theLastByteOfASlotIsNeeded() throws {
    let history = Self.history(.slots) { host in
      for (slot, page): (Int, UInt64) in [(1, 0x1000_0000), (2, 0x1_0000_0000)] {
        host.setSlot(slot, at: page, slot)
        for offset: UInt64 in [0, 64, 128, 192] {
          host.run(0, .write(MSR.systemTime, page + offset | 1))
          host.update()
        }
      }
    }
    try expectNotTested(Self.slot, history, "did not see last byte of a slot below 4 GiB")
  }

  @Test func bothMSRsAreNeededInReadOnlyMemory() throws {
    let history = Self.history(.slots) { host in
      host.setSlot(5, at: 0x3000_0000, 9, flags: 2)
      for _ in 0..<3 {
        host.run(0, .write(MSR.systemTime, 0x3000_0041))
        host.update()
      }
    }
    try expectNotTested(Self.readOnly, history, "did not see 0x12")
  }

  /// The host writes the wall clock MSR: KVM writes the record, and no record of the guest's is stale for it.
  @Test func aWallClockThatTheHostAskedForIsNoStrayWrite() throws {
    let history = Self.history(.crossPage) { host in
      host.machineInMemory(registering: [1])
      host.compare()
      host.run(0, .write(MSR.systemTime, 0x22ff1))
      host.host(.hostWroteMSR(vcpu: 0, msr: Hex(MSR.wallClock), value: 0x30000))
      host.memory.note(0x30000, [UInt8](repeating: 7, count: 12))
      host.setClock(5)
      for id in [0, 1] { host.enter(id) }
      host.compare()
    }
    #expect(try !judge(Self.noStray, history).isBroken)
  }
}
