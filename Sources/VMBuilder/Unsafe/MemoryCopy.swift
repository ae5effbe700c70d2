internal import Glibc
public import KVM

/// What a memory held when it was looked at last.
public struct MemoryCopy: Sendable {
  private var pages: [[UInt8]]

  public init(of memory: borrowing GuestMemory) {
    pages = (0..<memory.size / Self.pageSize).map { Self.page($0, of: memory) }
  }

  /// The bytes that are others by now, as pieces that begin and end with such a byte; the copy holds them from now on.
  /// Pieces closer to each other than `gap` bytes are one; no piece reaches over the end of a page.
  public mutating func takeChanges(
    of memory: borrowing GuestMemory, gap: Int
  ) -> [(offset: Int, bytes: [UInt8])] {
    var changes: [(offset: Int, bytes: [UInt8])] = []
    for number in pages.indices {
      let start = memory.base + number * Self.pageSize
      let isSame = memcmp(start, pages[number], Self.pageSize) == 0
      if isSame { continue }
      let now = Self.page(number, of: memory)
      for piece in Self.pieces(pages[number], now, gap: gap) {
        changes.append((number * Self.pageSize + piece.lowerBound, Array(now[piece])))
      }
      pages[number] = now
    }
    return changes
  }

  private static let pageSize = 4096

  private static func page(_ number: Int, of memory: borrowing GuestMemory) -> [UInt8] {
    memory.read(at: number * pageSize, count: pageSize)
  }

  private static func pieces(_ old: [UInt8], _ new: [UInt8], gap: Int) -> [ClosedRange<Int>] {
    var pieces: [ClosedRange<Int>] = []
    for at in new.indices where old[at] != new[at] {
      if let last = pieces.last, at - last.upperBound <= gap {
        pieces[pieces.count - 1] = last.lowerBound...at
      } else {
        pieces.append(at...at)
      }
    }
    return pieces
  }
}
