internal import ABIChecker
internal import KVM
internal import VMBuilder

extension Scenario {
  /// SYSTIME-SLOT-SERVED, SLOT-DELETE-NO-STALE, SLOT-READD-SERVED, HVA-REMAP-SERVED, READONLY-SLOT-UNTOUCHED,
  /// SYSTIME-UNBACKED-LATE-MAP: the memory behind a record comes, goes and is exchanged, while the other vCPU's stays.
  @Sendable static func slots(_ stage: Stage) throws {
    try stage.makeMachine()
    let memories = Memories(stage)
    for vcpu in [0, 1] { try stage.register(vcpu) }
    try serveSlots(stage, memories)
    for vcpu in [0, 1] {
      let home = stage.placeRecord(of: vcpu, second: true)
      try exchangeMemory(stage, memories, vcpu)
      try stage.register(vcpu, at: home)
      try lateMemory(stage, memories, vcpu)
      try stage.register(vcpu, at: home)
      try readOnlySlot(stage, memories, vcpu)
      try stage.register(vcpu, at: home)
    }
  }

  /// The first bytes of a slot, some in its middle, and its last ones.
  private static func offsets(_ stage: Stage) -> [UInt64] {
    let middle = UInt64.random(in: 1...2, using: &stage.random) << 12
    return [0, middle + UInt64.random(in: 0..<1016, using: &stage.random) * 4]
      + [UInt64(Memories.size) - 32]
  }

  private static func serveSlots(_ stage: Stage, _ memories: Memories) throws {
    let low = stage.freePage(region: 0)
    try memories.setSlot(1, at: low, try memories.make())
    for offset in offsets(stage) {
      try stage.register(0, at: low + offset)
      try memories.update()
      stage.look(0)
      try stage.read(0)
    }
    let high = 1 << 32 + UInt64.random(in: 0..<0x40_0000, using: &stage.random) << 12
    do {
      try memories.setSlot(2, at: high, try memories.make())
    } catch MachineError.kvm(let error) {
      return stage.lacks("a memory slot at \(Hex(high))", "\(error)")
    }
    for offset in offsets(stage) {
      try stage.registerUnread(0, at: high + offset)
      try memories.update()
      stage.look(0)
    }
  }

  /// The slot goes, comes back with other memory, with and without an update between, and its memory's pages are exchanged.
  private static func exchangeMemory(_ stage: Stage, _ memories: Memories, _ vcpu: Int) throws {
    let page = stage.freePage(region: 1)
    let first = try memories.make()
    try memories.setSlot(3, at: page, first)
    try stage.register(vcpu, at: page + UInt64.random(in: 0..<1016, using: &stage.random) * 4)
    try memories.update()
    var now = first
    for hasUpdateBetween in [true, false] {
      try memories.removeSlot(3)
      if hasUpdateBetween { try memories.update() }
      now = try memories.make()
      try memories.setSlot(3, at: page, now)
      try memories.update()
      try stage.read(vcpu)
    }
    for _ in 0..<2 {
      try memories.remap(now, shows: try memories.make())
      try memories.update()
      stage.look(vcpu)
      try stage.read(vcpu)
    }
    try stage.writeMSR(vcpu, MSR.systemTime, 0)
    try memories.removeSlot(3)
  }

  private static func lateMemory(_ stage: Stage, _ memories: Memories, _ vcpu: Int) throws {
    let page = stage.freePage(region: 2)
    try stage.registerUnread(vcpu, at: page + 64)
    try memories.update()
    try memories.setSlot(4, at: page, try memories.make())
    try memories.update()
    try stage.writeMSR(vcpu, MSR.systemTime, 0)
    try memories.removeSlot(4)
  }

  private static func readOnlySlot(_ stage: Stage, _ memories: Memories, _ vcpu: Int) throws {
    guard try stage.machine.vm.checkExtension(.readOnlyMemory) > 0 else {
      return stage.lacks("read-only memory slots", "KVM_CAP_READONLY_MEM is 0")
    }
    let page = stage.freePage(region: 3)
    try memories.setSlot(5, at: page, try memories.make(), .readOnly)
    for msr in [MSR.systemTime, MSR.systemTimeOld] {
      memories.compare()
      try stage.registerUnread(
        vcpu, at: page + UInt64.random(in: 0..<1016, using: &stage.random) * 4, msr)
      try stage.setClock(stage.random.next() >> 8)
      for other in [0, 1] { try stage.enter(other) }
      memories.compare()
      // The second time the vCPU has no record before it.
      try stage.writeMSR(vcpu, MSR.systemTime, 0)
    }
    try memories.removeSlot(5)
  }

  /// SYSTIME-CROSSPAGE-SERVED, SYSTIME-CROSSPAGE-NO-STALE, SYSTIME-CROSSPAGE-NO-STRAY.
  @Sendable static func crossPage(_ stage: Stage) throws {
    try stage.makeMachine()
    let memories = Memories(stage)
    try stage.register(1)
    // vCPU 0 has had no record at all the first time, and one that it gave up the next times.
    for _ in 0..<3 {
      memories.compare()
      try stage.writeMSR(0, MSR.systemTime, crossing(stage) | 1)
      try memories.update()
      try stage.writeMSR(0, MSR.systemTime, 0)
      try stage.register(0, at: stage.placeRecord(of: 0))
      try stage.writeMSR(0, MSR.systemTime, 0)
    }
    for _ in 0..<3 {
      try stage.register(0, at: stage.placeRecord(of: 0, second: true))
      try memories.update()
      try stage.writeMSR(0, MSR.systemTime, crossing(stage) | 1)
      for _ in 0..<2 { try memories.update() }
      try stage.writeMSR(0, MSR.systemTime, 0)
    }
  }

  /// An address whose record begins in vCPU 0's first page and ends in its second.
  private static func crossing(_ stage: Stage) -> UInt64 {
    Layout.clockPage(0, second: true) - UInt64.random(in: 1...7, using: &stage.random) * 4
  }

  /// DIRTY-LOG-PVCLOCK, DIRTY-LOG-WALL: in a slot that was logged from the start, and in one where logging begins while the
  /// record is registered, as in a migration; in a log that is cleared as it is fetched, and in one that is cleared by a
  /// request of its own, as QEMU has it. The guest reads nothing there: its read may have KVM map the page writable, which
  /// marks it too.
  @Sendable static func dirtyLog(_ stage: Stage) throws {
    try stage.makeMachine()
    try logSlots(stage)
    try stage.makeMachine()
    do {
      try stage.machine.makeDirtyLogManual()
    } catch MachineError.kvm(let error) {
      return stage.lacks("KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", "\(error)")
    }
    try logSlots(stage)
  }

  private static func logSlots(_ stage: Stage) throws {
    let memories = Memories(stage)
    try stage.register(1)
    for (slot, isLate) in [(UInt32(1), false), (2, true)] {
      let page = stage.freePage(region: UInt64(slot))
      let memory = try memories.make()
      if isLate { try memories.setSlot(slot, at: page, memory) }
      if isLate { try stage.registerUnread(0, at: page + 32) }
      do {
        try memories.setSlot(slot, at: page, memory, .logDirtyPages)
        try memories.dirtyLog(slot)
      } catch MachineError.kvm(let error) {
        return stage.lacks("a log of dirty pages", "\(error)")
      }
      if !isLate { try stage.registerUnread(0, at: page + 32) }
      try memories.dirtyLog(slot)
      try memories.update()
      try logUpdates(stage, memories, slot, page)
    }
  }

  private static func logUpdates(
    _ stage: Stage, _ memories: Memories, _ slot: UInt32, _ page: UInt64
  ) throws {
    for number: UInt64 in 0..<4 {
      try memories.dirtyLog(slot)
      memories.compare()
      try stage.registerUnread(0, at: page + number << 12 + 64)
      try memories.update()
      stage.look(0)
    }
    try memories.dirtyLog(slot)
    memories.compare()
    try stage.tellStopped(0)
    try stage.enter(0)
    memories.compare()
    for number: UInt64 in 0..<4 {
      let msr = number % 2 == 0 ? MSR.wallClock : MSR.wallClockOld
      try memories.dirtyLog(slot)
      memories.compare()
      try stage.writeMSR(0, msr, page + number << 12 + 2048)
      memories.compare()
    }
    try memories.dirtyLog(slot)
  }

  /// DIRTYRING-MARKS-RECORD. The guest reads nothing in the slots here either.
  @Sendable static func dirtyRing(_ stage: Stage) throws {
    for capability in [Capability.dirtyLogRing, .dirtyLogRingAcquireRelease] {
      do {
        try stage.makeMachine(dirtyRing: capability)
      } catch MachineError.kvm(let error) {
        stage.lacks("a dirty ring by \(capability)", "\(error)")
        continue
      }
      let memories = Memories(stage)
      for vcpu in [0, 1] {
        let page = stage.freePage(region: UInt64(vcpu) + 1)
        try memories.setSlot(UInt32(vcpu) + 1, at: page, try memories.make(), .logDirtyPages)
        try stage.registerUnread(vcpu, at: page + 32)
      }
      try memories.dirtyRings()
      for _ in 0..<3 {
        try memories.update()
        try memories.dirtyRings()
        for vcpu in [0, 1] { try ringUpdates(stage, memories, vcpu) }
      }
    }
  }

  /// A new record, one for a guest that was stopped, and two of the wall clock: each is looked for in the rings by itself.
  private static func ringUpdates(_ stage: Stage, _ memories: Memories, _ vcpu: Int) throws {
    let record = stage.records[vcpu]!
    let wall = record & ~4095 + 3 * 4096 + 2048
    let updates: [() throws -> Void] = [
      { try stage.registerUnread(vcpu, at: record ^ 64) },
      { try stage.tellStopped(vcpu) },
      { try stage.writeMSR(vcpu, MSR.wallClock, wall) },
      { try stage.writeMSR(vcpu, MSR.wallClockOld, wall) },
    ]
    for update in updates {
      memories.compare()
      try update()
      try stage.enter(vcpu)
      memories.compare()
      try memories.dirtyRings()
    }
  }
}
