import PVClock

@testable import ABIChecker

/// The memories behind the guest's addresses, and what KVM keeps of them for each vCPU.
struct SimulatedMemory {
  struct Slot {
    var address: UInt64
    var size: UInt64
    var memory: Int
    var flags: UInt64
  }

  /// What kernels have done wrong, or might.
  enum Fault {
    /// Linux since 5.19: a record across two pages is refused, and the former one stays.
    case refusesCrossing
    /// Linux 5.19 to 6.8: and without a former one the last one, or address 0, is written.
    case strays
    case keepsPlace, forgetsPlace, writesReadOnly, doesNotLog
  }

  /// Empty as long as nobody speaks of slots: then every address is as good as any other.
  var slots: [Int: Slot] = [:]
  var shows: [Int: Int] = [:]
  /// The memories that KVM can't write.
  var protected: Set<Int> = []
  var changes: [MemoryChange] = []
  var dirty: Set<UInt64> = []
  var fault: Fault?
  private var cached: [Int: UInt64] = [:]
  private var last: [Int: UInt64] = [:]
  private var hasMoved = false

  /// One number for a memory and an offset in it; in memory 0 the offset is the guest's address.
  static func key(_ memory: Int, _ offset: UInt64) -> UInt64 { UInt64(memory) << 48 | offset }

  func slot(at address: UInt64, count: UInt64 = 32) -> Slot? {
    slots.keys.sorted().compactMap { slots[$0] }.first {
      address >= $0.address && address + count <= $0.address + $0.size
    }
  }

  /// Where the bytes at a guest's address are; nil if no slot holds them.
  func place(of address: UInt64) -> UInt64? {
    if slots.isEmpty { return address }
    return slot(at: address).map {
      Self.key(shows[$0.memory] ?? $0.memory, address - $0.address)
    }
  }

  private func crosses(_ address: UInt64) -> Bool { address % 4096 > 4064 }

  mutating func register(_ id: Int, _ value: UInt64) {
    guard value & 1 == 1 else {
      cached[id] = nil
      return
    }
    if crosses(value & ~1), fault == .refusesCrossing || fault == .strays {
      if fault == .strays { cached[id] = cached[id] ?? last[id] ?? 0 }
      return
    }
    cached[id] = slots.isEmpty ? nil : place(of: value & ~1)
    last[id] = cached[id]
    hasMoved = false
  }

  /// Where KVM writes a vCPU's record.
  func target(_ id: Int, at address: UInt64) -> UInt64? {
    if fault == .keepsPlace || (crosses(address) && [.refusesCrossing, .strays].contains(fault)) {
      return cached[id]
    }
    if fault == .forgetsPlace, hasMoved, id == 0 { return nil }
    if let slot = slot(at: address), protected.contains(slot.memory) { return nil }
    if slot(at: address).map({ $0.flags & 2 != 0 }) == true, fault != .writesReadOnly {
      return nil
    }
    return place(of: address)
  }

  mutating func note(_ key: UInt64, _ page: ClockPage) { note(key, page.bytes) }

  mutating func note(_ key: UInt64, _ bytes: [UInt8]) {
    let offset = key & (1 << 48 - 1)
    changes.append(MemoryChange(memory: Int(key >> 48), offset: offset, bytes: bytes))
    if fault == .doesNotLog { return }
    for page in offset / 4096...(offset + UInt64(bytes.count) - 1) / 4096 {
      dirty.insert(Self.key(Int(key >> 48), page))
    }
  }

  mutating func move() { hasMoved = true }
}

extension HistoryBuilder {
  static let slotSize: UInt64 = 0x4000

  func key(of address: UInt64) -> UInt64 { memory.place(of: address) ?? .max }

  /// A machine with two vCPUs and RAM, both registered unless said otherwise.
  mutating func machineInMemory(
    _ fault: SimulatedMemory.Fault? = nil, registering ids: [Int] = [0, 1]
  ) {
    machine(0, 1)
    memory.fault = fault
    setSlot(0, at: 0, 0, size: 0x20_0000)
    for id in ids { register(id) }
  }

  mutating func setSlot(
    _ slot: Int, at address: UInt64, _ number: Int, flags: UInt64 = 0, size: UInt64 = slotSize
  ) {
    memory.slots[slot] = .init(address: address, size: size, memory: number, flags: flags)
    memory.move()
    host(
      .slotSet(
        slot: slot, address: Hex(address), memory: number, size: Hex(size), flags: Hex(flags)))
  }

  mutating func removeSlot(_ slot: Int) {
    memory.slots[slot] = nil
    memory.move()
    host(.slotDeleted(slot: slot))
  }

  mutating func protect(_ number: Int, _ access: HostAccess) {
    if access == .write { memory.protected.remove(number) } else { memory.protected.insert(number) }
    host(.protected(memory: number, access: access))
  }

  mutating func remap(_ number: Int, shows other: Int) {
    memory.shows[number] = other
    memory.move()
    host(.remapped(memory: number, shows: other))
  }

  mutating func compare(_ change: (inout [MemoryChange]) -> Void = { _ in }) {
    change(&memory.changes)
    host(.compared(changes: memory.changes))
    memory.changes = []
  }

  mutating func update(_ ids: [Int] = [0, 1], _ change: (inout [MemoryChange]) -> Void = { _ in }) {
    compare()
    setClock(3_600_000_000_000)
    for id in ids { enter(id) }
    compare(change)
  }

  mutating func dirtyLog(_ slot: Int, isManual: Bool = false) {
    let number = memory.slots[slot]!.memory
    let pages = memory.dirty.filter { $0 >> 48 == UInt64(number) }
    memory.dirty.subtract(pages)
    let numbers = pages.map { Int($0 & 0xffff_ffff) }.sorted()
    host(
      isManual
        ? .dirtyLogCleared(slot: slot, pages: numbers) : .dirtyLog(slot: slot, pages: numbers))
  }

  /// Takes what the rings name; the first page of each memory is named by the dirty log beside them.
  mutating func dirtyRings() {
    var pages: [NamedPage] = []
    for (number, slot) in memory.slots.sorted(by: { $0.key < $1.key }) where slot.flags & 1 == 1 {
      let dirty = memory.dirty.filter { $0 >> 48 == UInt64(slot.memory) }
      memory.dirty.subtract(dirty)
      pages += dirty.map { Int($0 & 0xffff_ffff) }.sorted().map {
        NamedPage(vcpu: $0 == 0 ? nil : 0, slot: number, page: $0)
      }
    }
    host(.dirtyRings(pages: pages))
  }

  /// A guest asks for a record of the wall clock.
  mutating func requestWall(_ id: Int, at address: UInt64, msr: UInt32 = MSR.wallClock) {
    run(id, .write(msr, address))
    memory.note(key(of: address), [UInt8](repeating: 7, count: 12))
  }
}
