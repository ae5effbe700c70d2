import Glibc
import KVM
import Testing

/// Root may watch, or anybody where vm.unprivileged_userfaultfd is 1.
private let mayWatch = (try? MissingPages()) != nil

@Suite(.enabled(if: mayWatch, "userfaultfd is refused"))
struct MissingPagesTests {
  @Test func `pages that were taken away hold what is supplied`() throws {
    let pages = try SharedPages(size: 8192)
    let place = try GuestMemory(showing: pages)
    let other = try GuestMemory(showing: pages)
    place.fill(7, at: 0, count: 8192)
    let missing = try MissingPages()
    try missing.watch(place)
    try pages.discard()
    #expect(try missing.next(in: place, milliseconds: 1) == nil)
    for (offset, byte) in [(0, UInt8(1)), (4096, 2)] {
      try missing.supply([UInt8](repeating: byte, count: 4096), at: offset, of: place)
    }
    #expect(place.read(at: 0, count: 1) == [1] && other.read(at: 8191, count: 1) == [2])
  }

  @Test func `a page that is there already stays as it is`() throws {
    let pages = try SharedPages(size: 4096)
    let place = try GuestMemory(showing: pages)
    place.fill(7, at: 0, count: 4096)
    let missing = try MissingPages()
    try missing.watch(place)
    try missing.supply([UInt8](repeating: 1, count: 4096), at: 0, of: place)
    #expect(place.read(at: 0, count: 1) == [7])
  }
}
