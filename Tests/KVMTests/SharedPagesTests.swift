import Glibc
import KVM
import Testing

@Suite struct SharedPagesTests {
  @Test func `two memories show the same pages`() throws {
    let pages = try SharedPages(size: 8192)
    let one = try GuestMemory(showing: pages)
    let other = try GuestMemory(showing: pages)
    #expect(one.size == 8192 && other.size == 8192 && one.base != other.base)
    #expect(one.read(at: 0, count: 8192).allSatisfy { $0 == 0 })
    one.write([1, 2, 3], at: 5000)
    #expect(other.read(at: 5000, count: 3) == [1, 2, 3])
  }

  @Test func `a memory that shows other pages keeps its address`() throws {
    let old = try SharedPages(size: 4096)
    let new = try SharedPages(size: 4096)
    let place = try GuestMemory(showing: old)
    let address = place.base
    place.fill(7, at: 0, count: 4096)
    try place.show(new)
    #expect(place.base == address)
    #expect(place.read(at: 0, count: 1) == [0])
    place.fill(9, at: 0, count: 4096)
    #expect(try GuestMemory(showing: old).read(at: 4095, count: 1) == [7])
    #expect(try GuestMemory(showing: new).read(at: 4095, count: 1) == [9])
  }

  @Test func `the pages outlive the one who made them`() throws {
    func make() throws -> GuestMemory { try GuestMemory(showing: SharedPages(size: 4096)) }
    let memory = try make()
    memory.fill(3, at: 0, count: 4096)
    #expect(memory.read(at: 4095, count: 1) == [3])
  }

  @Test func `no pages have no size`() throws {
    let error = try #require(throws: KVMError.self) { _ = try SharedPages(size: -1) }
    #expect(error == KVMError(request: "ftruncate", errno: EINVAL))
    let empty = try SharedPages(size: 0)
    #expect(throws: KVMError(request: "mmap", errno: EINVAL)) {
      _ = try GuestMemory(showing: empty)
    }
  }

  @Test func `other pages of another size are refused`() async {
    await #expect(processExitsWith: .failure) {
      let memory = try GuestMemory(size: 8192)
      try memory.show(SharedPages(size: 4096))
    }
  }
}
