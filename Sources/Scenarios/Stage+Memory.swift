internal import ABIChecker
internal import KVM
internal import PVClock
internal import VMBuilder

/// The memories of a stage's machine, by number: 0 is the machine's own, the others come and go in slots. It writes down who
/// stands where, and what was written in them.
final class Memories {
  private let stage: Stage
  /// Number 1 is the first one.
  private var backings: [Backing] = []
  private var copies: [MemoryCopy]

  static let size = 4 * 4096

  init(_ stage: Stage) {
    self.stage = stage
    let memory = stage.machine.memory.size
    copies = [MemoryCopy(of: stage.machine.memory)]
    stage.note(
      .slotSet(slot: 0, address: 0, memory: 0, size: Hex(UInt64(memory)), flags: 0))
  }

  /// A memory that holds 0xa5; its number.
  func make() throws -> Int {
    let backing = try Backing(size: Self.size, filledWith: 0xa5)
    backings.append(backing)
    copies.append(MemoryCopy(of: backing.memory))
    return backings.count
  }

  func setSlot(
    _ slot: UInt32, at address: UInt64, _ memory: Int, _ flags: MemoryRegionFlags = []
  ) throws {
    let backing = backings[memory - 1]
    try stage.note(
      {
        .slotSet(
          slot: Int(slot), address: Hex(address), memory: memory, size: Hex(UInt64(Self.size)),
          flags: Hex(flags.rawValue))
      }, of: { try stage.machine.setSlot(slot, at: address, backing, flags) })
  }

  func removeSlot(_ slot: UInt32) throws {
    try stage.note(
      { .slotDeleted(slot: Int(slot)) }, of: { try stage.machine.removeSlot(slot) })
  }

  func remap(_ memory: Int, shows other: Int) throws {
    try stage.note(
      { .remapped(memory: memory, shows: other) },
      of: { try backings[memory - 1].show(backings[other - 1]) })
  }

  func protect(_ memory: Int, _ access: HostAccess) throws {
    try stage.note(
      { .protected(memory: memory, access: access) },
      of: {
        switch access {
        case .none: try backings[memory - 1].allow([])
        case .read: try backings[memory - 1].allow(.read)
        case .write: try backings[memory - 1].allow([.read, .write])
        }
      })
  }

  /// Does something while the pages of a memory are away: each comes back a millisecond after somebody began to wait for it. False
  /// where the host does not let a process do that.
  func withoutPages(_ memory: Int, _ body: () throws -> Void) throws -> Bool {
    let supplier: PageSupplier
    do {
      supplier = try stage.note(
        { _ in .pagesMissing(memory: memory) },
        of: { try PageSupplier(of: backings[memory - 1], milliseconds: 1) })
    } catch MachineError.kvm(let error) {
      stage.lacks("userfaultfd", "\(error)")
      return false
    }
    let result = Result { try body() }
    for supplied in try supplier.end() {
      stage.record(
        .host, supplied.missed, supplied.there,
        .pageSupplied(memory: memory, page: supplied.page))
    }
    try result.get()
    return true
  }

  /// What changed in all memories since the last call. A record comes out as one piece.
  func compare() {
    _ = stage.note({ .compared(changes: $0) }, of: { copies.indices.flatMap(changes) })
  }

  private func changes(in memory: Int) -> [MemoryChange] {
    let machine = stage.machine
    let changes =
      memory == 0
      ? copies[0].takeChanges(of: machine.memory, gap: ClockPage.size)
        .filter { !Layout.isScratch(UInt64($0.offset), highest: machine.options.highest) }
      : copies[memory].takeChanges(of: backings[memory - 1].memory, gap: ClockPage.size)
    return changes.map {
      MemoryChange(memory: memory, offset: UInt64($0.offset), bytes: $0.bytes)
    }
  }

  /// The host sets the clock, so that every live record is written; what changed since then.
  func update() throws {
    compare()
    try stage.setClock(stage.random.next() >> 8)
    for vcpu in stage.machine.vcpus { try stage.enter(vcpu) }
    compare()
  }

  func dirtyLog(_ slot: UInt32) throws {
    let (number, isManual) = (Int(slot), stage.machine.hasManualDirtyLog)
    _ = try stage.note(
      { isManual ? .dirtyLogCleared(slot: number, pages: $0) : .dirtyLog(slot: number, pages: $0) },
      of: { try stage.machine.dirtyPages(of: slot) })
  }

  func dirtyRings() throws {
    _ = try stage.note(
      { .dirtyRings(pages: $0) },
      of: {
        try stage.machine.harvestDirtyRings().map {
          NamedPage(
            vcpu: $0.vcpu, slot: Int($0.page.slot), page: Int(truncatingIfNeeded: $0.page.page))
        }
      })
  }
}

extension Stage {
  /// The address of a page that no slot holds, below 1 GiB, where guests can read: another one for each `region` below 8.
  func freePage(region: UInt64) -> UInt64 {
    0x1000_0000 + region << 26 + UInt64.random(in: 0..<0x3000, using: &random) << 12
  }

  /// Registers a record that the guest may be unable to read.
  func registerUnread(_ vcpu: Int, at address: UInt64, _ msr: UInt32 = MSR.systemTime) throws {
    try writeMSR(vcpu, msr, address | 1)
    records[vcpu] = address
  }
}
