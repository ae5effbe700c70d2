internal import CKVM
internal import Glibc

/// Zeroed memory for a guest, unmapped when its owner has gone and no VM or vCPU has it in a slot.
///
/// A guest may write it at any time, so every access reads or writes each byte exactly once and
/// hands out copies. Bytes outside of it stop the program: the caller checks what a guest said.
public struct GuestMemory: ~Copyable, Sendable {
  let mapping: Mapping

  /// Maps `size` bytes, which a memory slot wants to be whole pages.
  ///
  /// The corresponding C function is `mmap`.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  public init(size: Int) throws(KVMError) {
    mapping = try Mapping(anonymous: size)
  }

  /// Maps pages that other memories may show as well.
  ///
  /// The corresponding C function is `mmap`.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  public init(showing pages: borrowing SharedPages) throws(KVMError) {
    mapping = try Mapping(shared: pages.file, size: pages.size)
  }

  /// Shows other pages, of the same size, at the same address from now on.
  ///
  /// The corresponding C function is `mmap`, with `MAP_FIXED`.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  public func show(_ pages: borrowing SharedPages) throws(KVMError) {
    require(pages.size == size, "\(pages.size) bytes do not replace \(size)")
    try mapping.replace(by: pages.file)
  }

  /// Says what this process, and KVM for it, may do with the memory from now on. An access by this process that it does
  /// not allow kills the process.
  ///
  /// The corresponding C function is `mprotect`.
  /// - Throws: `KVMError` naming the function, with `errno`.
  public func allow(_ access: MemoryAccess) throws(KVMError) {
    try mapping.allow(access)
  }

  /// The size in bytes.
  public var size: Int {
    mapping.size
  }

  /// Where the memory begins in this process; valid for as long as the owner lives.
  @unsafe public var base: UnsafeMutableRawPointer {
    mapping.base
  }

  /// A copy of `count` bytes; whole aligned 32-bit words are read as such.
  public func read(at offset: Int, count: Int) -> [UInt8] {
    let source = address(offset, count)
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      if let start = buffer.baseAddress { ckvm_copy_out(source, start, count) }
      initializedCount = count
    }
  }

  /// Copies bytes in; whole aligned 32-bit words are written as such.
  public func write(_ bytes: [UInt8], at offset: Int) {
    let destination = address(offset, bytes.count)
    bytes.withUnsafeBufferPointer { buffer in
      if let start = buffer.baseAddress { ckvm_copy_in(destination, start, buffer.count) }
    }
  }

  /// Sets `count` bytes to the same value.
  public func fill(_ byte: UInt8, at offset: Int, count: Int) {
    let destination = address(offset, count)
    guard count > 0 else { return }
    let chunk = [UInt8](repeating: byte, count: min(count, 4096))
    chunk.withUnsafeBufferPointer { buffer in
      guard let start = buffer.baseAddress else { return }
      for done in stride(from: 0, to: count, by: buffer.count) {
        ckvm_copy_in(destination + done, start, min(buffer.count, count - done))
      }
    }
  }

  /// The aligned 32-bit word at `offset`; later accesses come after it (acquire).
  public func load32(at offset: Int) -> UInt32 {
    ckvm_load32(wordAddress(offset))
  }

  /// Stores the aligned 32-bit word at `offset`; earlier accesses come before it (release).
  public func store32(_ value: UInt32, at offset: Int) {
    ckvm_store32(wordAddress(offset), value)
  }

  /// `count` aligned 32-bit words, each read once.
  public func loadWords(at offset: Int, count: Int) -> [UInt32] {
    require(count >= 0 && count <= size / 4, "\(count) words are more than the memory has")
    let source = address(offset, count * 4)
    require(offset % 4 == 0, "offset \(offset) is not that of a 32-bit word")
    return [UInt32](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      if let start = buffer.baseAddress { ckvm_load_words(source, start, count) }
      initializedCount = count
    }
  }

  /// Where a piece of the memory stands in this process, for requests that take such an address.
  public func piece(at offset: Int, count: Int) -> MemoryPiece {
    MemoryPiece(
      mapping: mapping, address: UInt64(UInt(bitPattern: address(offset, count))), count: count)
  }

  private func wordAddress(_ offset: Int) -> UnsafeMutableRawPointer {
    require(offset % 4 == 0, "offset \(offset) is not that of a 32-bit word")
    return address(offset, 4)
  }

  private func address(_ offset: Int, _ count: Int) -> UnsafeMutableRawPointer {
    require(
      offset >= 0 && count >= 0 && count <= size && offset <= size - count,
      "\(count) bytes at offset \(offset) are outside of guest memory of \(size) bytes")
    return mapping.base + offset
  }
}

/// A piece of guest memory by its address in this process. It keeps the memory, and so does whoever it is given to.
public struct MemoryPiece: Sendable {
  let mapping: Mapping
  let address: UInt64
  /// In bytes.
  public let count: Int
}
