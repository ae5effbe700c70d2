import Glibc
import KVM
import Testing

@Suite struct GuestMemoryTests {
  @Test func `new memory is zero and has the size asked for`() throws {
    let memory = try GuestMemory(size: 8192)
    #expect(memory.size == 8192)
    #expect(memory.read(at: 0, count: 8192) == [UInt8](repeating: 0, count: 8192))
  }

  @Test func `no mapping can have no size`() throws {
    for size in [0, -1] {
      let error = try #require(throws: KVMError.self) { _ = try GuestMemory(size: size) }
      #expect(error == KVMError(request: "mmap", errno: EINVAL))
    }
  }

  @Test func `bytes come back at every alignment and length`() throws {
    let memory = try GuestMemory(size: 4096)
    for offset in 0..<8 {
      for count in 0..<24 {
        memory.fill(0xEE, at: 0, count: 64)
        let bytes = (0..<count).map { UInt8($0 + 1) }
        memory.write(bytes, at: offset)
        #expect(memory.read(at: offset, count: count) == bytes)
        let around = [UInt8](repeating: 0xEE, count: offset)
        #expect(memory.read(at: 0, count: offset) == around)
        #expect(memory.read(at: offset + count, count: 4) == [0xEE, 0xEE, 0xEE, 0xEE])
      }
    }
  }

  @Test func `fill sets exactly the bytes asked for`() throws {
    let memory = try GuestMemory(size: 16384)
    memory.fill(0x5A, at: 3, count: 9001)
    #expect(memory.read(at: 0, count: 3) == [0, 0, 0])
    #expect(memory.read(at: 3, count: 9001) == [UInt8](repeating: 0x5A, count: 9001))
    #expect(memory.read(at: 9004, count: 4) == [0, 0, 0, 0])
    memory.fill(1, at: 16384, count: 0)
  }

  @Test func `words are little-endian`() throws {
    let memory = try GuestMemory(size: 4096)
    memory.store32(0x0403_0201, at: 4092)
    #expect(memory.read(at: 4092, count: 4) == [1, 2, 3, 4])
    memory.write([5, 6, 7, 8, 9, 10, 11, 12], at: 8)
    #expect(memory.load32(at: 8) == 0x0807_0605)
    #expect(memory.loadWords(at: 8, count: 2) == [0x0807_0605, 0x0C0B_0A09])
  }
}

@Suite struct GuestMemoryBoundsTests {
  @Test(arguments: [(4090, 7), (4096, 1), (-1, 1), (0, -1), (Int.max, Int.max)])
  func `reading outside of the memory stops the program`(offset: Int, count: Int) async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) { [offset, count] in
      stopWithoutBacktrace()
      _ = try GuestMemory(size: 4096).read(at: offset, count: count)
    }
    try #expect(message(of: result).contains("\(count) bytes at offset \(offset) are outside"))
  }

  @Test func `writing outside of the memory stops the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      try GuestMemory(size: 4096).write([1, 2], at: 4095)
    }
    try #expect(message(of: result).contains("2 bytes at offset 4095 are outside"))
  }

  @Test func `filling outside of the memory stops the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      try GuestMemory(size: 4096).fill(1, at: 1, count: 4096)
    }
    try #expect(message(of: result).contains("4096 bytes at offset 1 are outside"))
  }

  @Test func `a word outside of the memory stops the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      try GuestMemory(size: 4096).store32(1, at: 4096)
    }
    try #expect(message(of: result).contains("4 bytes at offset 4096 are outside"))
  }

  @Test func `several words that reach outside of the memory stop the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      _ = try GuestMemory(size: 4096).loadWords(at: 4092, count: 2)
    }
    try #expect(message(of: result).contains("8 bytes at offset 4092 are outside"))
  }

  @Test func `a word that is not aligned stops the program`() async throws {
    let result = await #expect(
      processExitsWith: .failure, observing: [\.standardErrorContent]
    ) {
      stopWithoutBacktrace()
      _ = try GuestMemory(size: 4096).load32(at: 2)
    }
    try #expect(message(of: result).contains("offset 2 is not that of a 32-bit word"))
  }
}
