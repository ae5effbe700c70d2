import KVM
import PVClock
import Testing

@testable import VMBuilder

extension Live {
  @Suite("Memory slots and what is written in them")
  struct Slots {
    static let page: UInt64 = 0x1234_5000

    private func backing(_ byte: UInt8) throws -> Backing {
      try Backing(size: 2 * 4096, filledWith: byte)
    }

    private func store(_ machine: Machine, _ value: UInt32) throws {
      _ = try machine.ask(0, .store32(value, at: Self.page + 0x10))
    }

    private func word(_ backing: Backing) -> UInt32 { backing.memory.load32(at: 0x10) }

    @Test("the guest writes the memory in the slot, and the next one after the slot came back")
    func exchange() throws {
      let machine = try LiveHost.machine()
      let (old, new) = (try backing(0xa5), try backing(0))
      try machine.setSlot(1, at: Self.page, old)
      try store(machine, 1)
      try machine.removeSlot(1)
      try machine.setSlot(1, at: Self.page, new)
      try store(machine, 2)
      #expect(word(old) == 1 && word(new) == 2)
      #expect(old.memory.load32(at: 0x14) == 0xa5a5_a5a5)
    }

    @Test("other pages come to the slot's address, and the old ones can be looked at all the same")
    func remap() throws {
      let machine = try LiveHost.machine()
      let (old, new) = (try backing(0), try backing(0))
      try machine.setSlot(1, at: Self.page, old)
      try store(machine, 1)
      try old.show(new)
      try store(machine, 2)
      #expect(word(old) == 1 && word(new) == 2)
      #expect(machine.record(at: Self.page + 0x10).version == 2)
    }

    @Test("a record in the last bytes of a slot is found, and RAM is where it was")
    func records() throws {
      let machine = try LiveHost.machine()
      let memory = try backing(7)
      try machine.setSlot(1, at: Self.page, memory)
      #expect(machine.record(at: Self.page + 8192 - 32).version == 0x0707_0707)
      machine.memory.store32(5, at: Int(Layout.shared))
      #expect(machine.record(at: Layout.shared).version == 5)
    }

    @Test("memory that the host may not use is neither read nor written, until it may be again")
    func protected() throws {
      let machine = try LiveHost.machine()
      let memory = try backing(7)
      try machine.setSlot(1, at: Self.page, memory)
      for (access, canRead) in [(MemoryAccess.read, true), ([], false)] {
        try memory.allow(access)
        #expect(!machine.space.write([1], at: Self.page))
        #expect(machine.space.read(Self.page, count: 1) == (canRead ? [7] : nil))
      }
      try memory.allow([.read, .write])
      #expect(machine.space.write([1], at: Self.page))
      #expect(machine.space.read(Self.page, count: 1) == [1])
    }

    @Test("the log names the pages that were written, once")
    func dirtyPages() throws {
      let machine = try LiveHost.machine()
      try machine.setSlot(1, at: Self.page, try backing(0), .logDirtyPages)
      #expect(try machine.dirtyPages(of: 1) == [])
      _ = try machine.ask(0, .store32(1, at: Self.page + 0x1004))
      #expect(try machine.dirtyPages(of: 1) == [1])
      #expect(try machine.dirtyPages(of: 1) == [])
    }

    @Test("slots that KVM refuses are errors")
    func refused() throws {
      let machine = try LiveHost.machine()
      let memory = try backing(0)
      #expect(throws: MachineError.self) { try machine.setSlot(1, at: 0x1000, memory) }
      #expect(throws: MachineError.self) { try machine.removeSlot(9) }
    }
  }
}

@Suite struct MemoryCopyTests {
  private func changes(
    _ writes: [(offset: Int, bytes: [UInt8])], gap: Int = 4
  ) throws -> [(offset: Int, bytes: [UInt8])] {
    let memory = try GuestMemory(size: 2 * 4096)
    var copy = MemoryCopy(of: memory)
    for write in writes { memory.write(write.bytes, at: write.offset) }
    let changes = copy.takeChanges(of: memory, gap: gap)
    // From now on it holds what was seen.
    #expect(copy.takeChanges(of: memory, gap: gap).isEmpty)
    return changes
  }

  @Test func nothingChanged() throws {
    #expect(try changes([]).isEmpty)
    #expect(try changes([(17, [0, 0])]).isEmpty)
  }

  @Test func aPieceBeginsAndEndsWithAChange() throws {
    let found = try changes([(100, [0, 1, 0, 2, 0]), (8191, [9])])
    #expect(found.map(\.offset) == [101, 8191])
    #expect(found.map(\.bytes) == [[1, 0, 2], [9]])
  }

  @Test func whatIsFarApartIsTwoPieces() throws {
    #expect(try changes([(0, [1]), (4, [1]), (9, [1])]).map(\.offset) == [0, 9])
  }

  @Test func aPieceEndsWithThePage() throws {
    #expect(try changes([(4094, [1, 2, 3])]).map(\.bytes) == [[1, 2], [3]])
  }
}
