internal import PVClock

// The changes of a machine's memories between two comparisons of all of them, and the memory that KVM may write.

/// Bytes of one of the host's memories.
struct Place: Hashable, Sendable {
  var memory: Int
  var offset: Int128
  var count: Int128

  func contains(_ change: MemoryChange) -> Bool {
    change.memory == memory && offset <= change.start && change.end <= offset + count
  }

  func meets(_ change: MemoryChange) -> Bool {
    change.memory == memory && change.start < offset + count && offset < change.end
  }
}

extension MemoryChange {
  fileprivate var start: Int128 { Int128(offset.value) }
  fileprivate var end: Int128 { start + Int128(bytes.bytes.count) }

  /// The pages that it touches, by number.
  var pages: ClosedRange<Int128> { start / 4096...max(start, end - 1) / 4096 }
}

/// A vCPU's registration, and the memory behind it since then.
struct RecordInMemory: Sendable {
  enum Move { case slot, remap }

  /// What the vCPU had registered before.
  enum Former: Hashable, Sendable {
    case nothing
    case givenUp
    case live(Place?)
  }

  let vcpu: Int
  let address: UInt64
  let write: SystemTimeWrite
  let former: Former
  /// Where it lay at the write; nil where no slot held it.
  let first: Place?
  var place: Place?
  var slot: GuestMemory.Slot?
  /// Where it lay since the write, and lies no more.
  var left: [Place] = []
  /// What moved it last.
  var moved: Move?

  var isReadOnly: Bool { slot?.isReadOnly ?? false }
  var crossesPage: Bool { address % 4096 > 4096 - UInt64(ClockPage.size) }
}

/// The changes of memory between two comparisons of all of it, and what KVM may write meanwhile.
struct MemoryWindow: Sendable {
  /// The machine, and the places of the two comparisons in the history.
  let machine: Int
  let beganAt: Int
  var endedAt: Int
  let began: Event
  var ended: Event
  /// The last setting of the clock in it, and the vCPUs that entered after that.
  var setting: Event?
  var entered: Set<Int> = []
  /// The vCPUs that `KVM_KVMCLOCK_CTRL` was accepted for.
  var toldStopped: Set<Int> = []
  /// Whether no record moved meanwhile.
  var isSteady = true
  /// Where KVM may write at one time or another.
  var allowed: Set<Place> = []
  /// Records of the wall clock that a guest asked for.
  var walls: [(place: Place, msr: Hex, write: Event)] = []
  /// The registrations at its end, by vCPU.
  var records: [RecordInMemory] = []
  var changes: [MemoryChange] = []

  func allows(_ change: MemoryChange) -> Bool { allowed.contains { $0.contains(change) } }

  /// Whether some other vCPU's record was written: proof that updates were made.
  func hasWitness(besides vcpu: Int) -> Bool {
    records.contains { other in
      guard other.vcpu != vcpu, let place = other.place, !other.isReadOnly else { return false }
      return changes.contains { place.contains($0) }
    }
  }

  /// The windows of one machine.
  static func all(of machine: MachineRun) -> [Self] {
    guard machine.steps.contains(where: \.isComparison) else { return [] }
    var pass = MemoryPass()
    return machine.steps.compactMap { pass.take($0) }
  }
}

extension Step {
  fileprivate var isComparison: Bool {
    if case .compared = event.action { true } else { false }
  }
}

/// The forward pass over the steps of a machine.
private struct MemoryPass {
  private var records: [Int: RecordInMemory] = [:]
  private var window: MemoryWindow?

  /// The window that this step ends.
  mutating func take(_ step: Step) -> MemoryWindow? {
    if step.isEntry, let vcpu = step.vcpu, window?.setting != nil { window?.entered.insert(vcpu) }
    switch step.event.action {
    case .slotSet, .slotDeleted: relocate(.slot, step)
    case .remapped: relocate(.remap, step)
    case .wroteMSR(let msr, let value, nil) where MSR.isWallClock(msr),
      .hostWroteMSR(_, let msr, let value) where MSR.isWallClock(msr):
      if let place = step.machine.memory.place(of: value.value, count: 12)?.place {
        window?.allowed.insert(place)
        window?.walls.append((place, msr, step.event))
      }
    case .setClock:
      window?.setting = step.event
      window?.entered = []
    case .toldStopped(let vcpu, .none): window?.toldStopped.insert(vcpu)
    // The host or a guest writes memory for other reasons.
    case .filled, .poked, .booted, .vcpuCreated: window = nil
    case .replugged(let vcpu, _):
      window = nil
      records[vcpu] = nil
    case .compared(let changes): return compare(changes, step)
    default: break
    }
    if let write = step.systemTimeWrite, let vcpu = step.vcpu { register(vcpu, write, step) }
    return nil
  }

  private mutating func compare(_ changes: [MemoryChange], _ step: Step) -> MemoryWindow? {
    var ended = window
    ended?.ended = step.event
    ended?.endedAt = step.index
    ended?.changes = changes
    ended?.records = records.keys.sorted().compactMap { records[$0] }
    window = MemoryWindow(
      machine: step.machine.number, beganAt: step.index, endedAt: step.index, began: step.event,
      ended: step.event)
    allowRecords()
    return ended
  }

  private mutating func allowRecords() {
    for record in records.values where !record.isReadOnly {
      if let place = record.place { window?.allowed.insert(place) }
    }
  }

  private mutating func register(_ vcpu: Int, _ write: SystemTimeWrite, _ step: Step) {
    window?.isSteady = false
    let old = records.removeValue(forKey: vcpu)
    let wasNeverWritten = step.before.systemTime == nil && step.before.reset == nil
    guard let address = write.record else { return }
    let found = step.machine.memory.place(of: address)
    records[vcpu] = RecordInMemory(
      vcpu: vcpu, address: address, write: write,
      former: old.map { .live($0.place) } ?? (wasNeverWritten ? .nothing : .givenUp),
      first: found?.place, place: found?.place, slot: found?.slot)
    allowRecords()
  }

  private mutating func relocate(_ move: RecordInMemory.Move, _ step: Step) {
    for (vcpu, var record) in records {
      let found = step.machine.memory.place(of: record.address)
      record.slot = found?.slot
      if found?.place != record.place {
        record.moved = move
        if let place = record.place { record.left.append(place) }
        record.place = found?.place
      }
      records[vcpu] = record
    }
    window?.isSteady = false
    allowRecords()
  }
}

extension GuestMemory {
  /// Where a clock record at `address` lies.
  fileprivate func place(of address: UInt64) -> (place: Place, slot: Slot)? {
    guard let found = place(of: address, count: Int128(ClockPage.size)),
      let slot = slots[found.slot]
    else { return nil }
    return (found.place, slot)
  }
}

extension MSR {
  static func isWallClock(_ msr: Hex) -> Bool {
    msr.value == UInt64(wallClock) || msr.value == UInt64(wallClockOld)
  }
}

extension Timeline {
  /// Each record whose vCPU was entered after a setting of the clock, in a window in which nothing else was done.
  func recordsUpdated(
    _ concerns: (RecordInMemory) -> Bool
  ) -> [(window: MemoryWindow, record: RecordInMemory, setting: Event)] {
    memoryWindows.flatMap { window in
      guard window.isSteady, let setting = window.setting else {
        return [(window: MemoryWindow, record: RecordInMemory, setting: Event)]()
      }
      return window.records.filter { window.entered.contains($0.vcpu) && concerns($0) }
        .map { (window, $0, setting) }
    }
  }
}

/// "23 bytes from 0x40 of memory 2 changed", for each of a few.
func describe(_ changes: [MemoryChange]) -> String {
  if changes.isEmpty { return "no change" }
  let shown = changes.prefix(4).map {
    describe(Int128($0.bytes.bytes.count), from: $0.offset, of: $0.memory)
  }
  let rest = changes.count - shown.count
  return shown.joined(separator: ", ") + (rest > 0 ? " and \(rest) more" : "") + " changed"
}

func describe(_ place: Place) -> String {
  describe(
    place.count, from: Hex(UInt64(truncatingIfNeeded: place.offset)), of: place.memory)
}

private func describe(_ count: Int128, from offset: Hex, of memory: Int) -> String {
  "\(count) bytes from \(offset) of " + (memory == 0 ? "the RAM" : "memory \(memory)")
}
