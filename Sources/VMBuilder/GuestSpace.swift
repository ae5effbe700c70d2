public import KVM
internal import Synchronization

/// A VM and its guest-physical memory as a host writes it: which memory stands at an address now, and whether it may be
/// written.
///
/// Any thread may use it.
public final class GuestSpace: Sendable {
  public let vm: VirtualMachine
  public let memory: GuestMemory
  private let slots = Mutex<[ExtraSlot]>([])

  init(vm: consuming VirtualMachine, memory: consuming GuestMemory) {
    self.vm = vm
    self.memory = memory
  }

  /// Whether all of these bytes lie in memory that may be written.
  public func isWritable(_ address: UInt64, count: Int) -> Bool {
    pieces(address, count, writing: true) != nil
  }

  /// A copy of bytes of the guest; nil unless memory stands at all of them.
  public func read(_ address: UInt64, count: Int) -> [UInt8]? {
    pieces(address, count, writing: false)?.flatMap { piece in
      piece.place.withMemory(memory) { $0.read(at: piece.offset, count: piece.count) }
    }
  }

  /// Writes all bytes or none, aligned 32-bit words as such, and marks the pages in a slot's log of dirty pages; false
  /// where not all of it may be written.
  @discardableResult
  public func write(_ bytes: [UInt8], at address: UInt64) -> Bool {
    guard let pieces = pieces(address, bytes.count, writing: true) else { return false }
    var done = 0
    for piece in pieces {
      let part = Array(bytes[done..<done + piece.count])
      piece.place.withMemory(memory) { $0.write(part, at: piece.offset) }
      done += piece.count
    }
    slots.withLock { slots in
      for index in slots.indices { slots[index].markDirty(address, count: bytes.count) }
    }
    return true
  }

  /// A stretch of one memory.
  private struct Piece {
    var place: ExtraSlot.Place
    var offset: Int
    var count: Int
  }

  private func pieces(_ address: UInt64, _ count: Int, writing: Bool) -> [Piece]? {
    slots.withLock { slots in
      var pieces: [Piece] = []
      var at = address
      var left = count
      while left > 0 {
        guard let (place, offset, room) = find(at, slots, writing: writing) else { return nil }
        let part = min(room, left)
        pieces.append(Piece(place: place, offset: offset, count: part))
        at &+= UInt64(part)
        left -= part
      }
      return pieces
    }
  }

  private func find(
    _ address: UInt64, _ slots: [ExtraSlot], writing: Bool
  ) -> (ExtraSlot.Place, offset: Int, room: Int)? {
    if address < UInt64(memory.size) { return (.machine, Int(address), memory.size - Int(address)) }
    for slot in slots where slot.holds(address, count: 1) {
      if writing, slot.flags.contains(.readOnly) { return nil }
      guard slot.backing.allows(writing ? [.read, .write] : .read) else { return nil }
      let offset = Int(address - slot.address)
      return (.backing(slot.backing), offset, slot.backing.memory.size - offset)
    }
    return nil
  }

  func change<Value>(_ body: (inout sending [ExtraSlot]) -> sending Value) -> sending Value {
    slots.withLock(body)
  }
}

/// A memory slot beside the machine's own.
struct ExtraSlot: Sendable {
  var slot: UInt32
  var address: UInt64
  var backing: Backing
  var flags: MemoryRegionFlags
  /// Pages that the host wrote in a slot that is logged: KVM's own log knows only what it or the guest wrote.
  var dirty: Set<Int> = []

  enum Place: Sendable {
    case machine
    case backing(Backing)

    func withMemory<Value>(
      _ machine: borrowing GuestMemory, _ body: (borrowing GuestMemory) -> Value
    ) -> Value {
      switch self {
      case .machine: body(machine)
      case .backing(let backing): body(backing.place)
      }
    }
  }

  func holds(_ start: UInt64, count: Int) -> Bool {
    let size = UInt64(backing.memory.size)
    return start >= address && start - address <= size - UInt64(count)
  }

  mutating func markDirty(_ start: UInt64, count: Int) {
    guard flags.contains(.logDirtyPages), start < address &+ UInt64(backing.memory.size),
      start &+ UInt64(count) > address
    else { return }
    let first = start > address ? start - address : 0
    let last = min(start &+ UInt64(count) &- address, UInt64(backing.memory.size)) - 1
    for page in first / Layout.pageSize...last / Layout.pageSize { dirty.insert(Int(page)) }
  }
}
