internal import PVClock

// What was written in the machine's memories between two comparisons of all of them, and what KVM had leave to write.

/// Bytes of one of the host's memories.
struct Place: Hashable {
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

/// A vCPU's registration, and what became of the memory behind it.
struct RecordInMemory {
  enum Move { case slot, remap }

  let vcpu: Int
  let address: UInt64
  let write: Event
  /// The live record that this write gave up.
  let givenUp: Place?
  /// Whether the vCPU had no registration before.
  let wasOff: Bool
  /// Where it stood at the write; nil where no slot held it.
  let first: Place?
  var place: Place?
  var slot: Int?
  var isReadOnly = false
  /// Where it stood since the write, but no more.
  var former: [Place] = []
  /// What moved it last.
  var moved: Move?

  var crossesPage: Bool { address % 4096 > 4096 - UInt64(ClockPage.size) }
}

struct MemoryWindow {
  /// The two comparisons.
  let began: Event
  var ended: Event
  /// The last setting of the clock in it, and who was in the guest after that.
  var setting: Event?
  var entered: Set<Int> = []
  /// Whether nothing came to stand elsewhere meanwhile.
  var isSteady = true
  /// Where KVM had leave to write at one time or another.
  var allowed: Set<Place>
  /// Records of the wall clock that a guest asked for.
  var walls: [(place: Place, write: Event)] = []
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
}

/// The forward pass over the events.
struct MemoryPass {
  private struct Slot {
    var address: Int128
    var size: Int128
    var memory: Int
    var flags: UInt64
  }

  private var slots: [Int: Slot] = [:]
  private var shows: [Int: Int] = [:]
  private var records: [Int: RecordInMemory] = [:]
  private(set) var window: MemoryWindow?

  /// The window that this event ends.
  mutating func take(_ event: Event) -> MemoryWindow? {
    if case .vcpu(let vcpu) = event.actor, window?.setting != nil {
      window?.entered.insert(vcpu)
    }
    switch (event.action, event.actor) {
    case (.vmCreated, _): self = MemoryPass()
    case (.slotSet(let slot, let address, let memory, let size, let flags), _):
      slots[slot] = Slot(
        address: Int128(address.value), size: Int128(size.value), memory: memory,
        flags: flags.value)
      relocate(.slot)
    case (.slotDeleted(let slot), _):
      slots[slot] = nil
      relocate(.slot)
    case (.remapped(let memory, let other), _):
      shows[memory] = other
      relocate(.remap)
    case (.wroteMSR(let msr, let value, nil), .vcpu(let vcpu)) where MSR.isSystemTime(msr):
      register(vcpu, value.value, event)
    case (.hostWroteMSR(let vcpu, let msr, let value), _) where MSR.isSystemTime(msr):
      register(vcpu, value.value, event)
    case (.wroteMSR(let msr, let value, nil), _) where MSR.isWallClock(msr):
      if let place = resolve(value.value, count: 12)?.place {
        window?.allowed.insert(place)
        window?.walls.append((place, event))
      }
    case (.setClock, _):
      window?.setting = event
      window?.entered = []
    // The host or a guest writes memory for other reasons.
    case (.filled, _), (.poked, _), (.booted, _), (.vcpuCreated, _): window = nil
    case (.replugged(let vcpu, _), _):
      window = nil
      records[vcpu] = nil
    case (.compared(let changes), _): return compare(changes, event)
    default: break
    }
    return nil
  }

  private mutating func compare(_ changes: [MemoryChange], _ event: Event) -> MemoryWindow? {
    var ended = window
    ended?.ended = event
    ended?.changes = changes
    ended?.records = records.keys.sorted().compactMap { records[$0] }
    window = MemoryWindow(began: event, ended: event, allowed: [])
    allowRecords()
    return ended
  }

  private mutating func allowRecords() {
    for record in records.values where !record.isReadOnly {
      if let place = record.place { window?.allowed.insert(place) }
    }
  }

  private mutating func register(_ vcpu: Int, _ value: UInt64, _ event: Event) {
    window?.isSteady = false
    let old = records[vcpu]
    guard value & 1 == 1 else {
      records[vcpu] = nil
      return
    }
    let found = resolve(value & ~1, count: Int128(ClockPage.size))
    records[vcpu] = RecordInMemory(
      vcpu: vcpu, address: value & ~1, write: event, givenUp: old?.place, wasOff: old == nil,
      first: found?.place, place: found?.place, slot: found?.slot,
      isReadOnly: found?.isReadOnly ?? false)
    allowRecords()
  }

  private mutating func relocate(_ move: RecordInMemory.Move) {
    for (vcpu, var record) in records {
      let found = resolve(record.address, count: Int128(ClockPage.size))
      record.isReadOnly = found?.isReadOnly ?? false
      record.slot = found?.slot
      if found?.place != record.place {
        record.moved = move
        if let place = record.place { record.former.append(place) }
        record.place = found?.place
      }
      records[vcpu] = record
    }
    window?.isSteady = false
    allowRecords()
  }

  private func resolve(
    _ address: UInt64, count: Int128
  ) -> (place: Place, slot: Int, isReadOnly: Bool)? {
    let start = Int128(address)
    for number in slots.keys.sorted() {
      guard let slot = slots[number], slot.address <= start,
        start + count <= slot.address + slot.size
      else { continue }
      let place = Place(
        memory: shows[slot.memory] ?? slot.memory, offset: start - slot.address, count: count)
      return (place, number, slot.flags & 2 != 0)
    }
    return nil
  }
}

extension MSR {
  static func isWallClock(_ msr: Hex) -> Bool {
    msr.value == UInt64(wallClock) || msr.value == UInt64(wallClockOld)
  }
}

extension Timeline {
  var memoryWindows: [MemoryWindow] {
    var pass = MemoryPass()
    return history.events.compactMap { pass.take($0) }
  }

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
