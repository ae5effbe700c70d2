internal import CKVM

/// Watches memory whose pages may be missing: whoever touches one, KVM too, waits until it is supplied.
///
/// This is what a virtual machine monitor does on the side to which a VM is migrated while its memory is still on the other.
public struct MissingPages: ~Copyable, Sendable {
  private let file: FileDescriptor
  public static let pageSize = 4096

  /// The corresponding C functions are `userfaultfd` and the request `UFFDIO_API`.
  /// - Throws: `KVMError` naming the function, with `errno`; `EPERM` where only root may.
  public init() throws(KVMError) {
    file = FileDescriptor(owning: try check("userfaultfd", ckvm_userfaultfd()))
  }

  /// The corresponding request is `UFFDIO_REGISTER`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func watch(_ memory: borrowing GuestMemory) throws(KVMError) {
    try check("UFFDIO_REGISTER", ckvm_watch_missing(file.raw, memory.base, memory.size))
  }

  /// The offset in `memory` of the page that somebody waits for; nil if nobody does within so many milliseconds.
  ///
  /// The corresponding C functions are `poll` and `read`.
  /// - Throws: `KVMError` naming the function, with `errno`.
  public func next(
    in memory: borrowing GuestMemory, milliseconds: Int32
  ) throws(KVMError) -> Int? {
    var address: UInt64 = 0
    guard
      try check("read", ckvm_next_missing(file.raw, milliseconds, &address)) == 1
    else { return nil }
    let offset = Int(truncatingIfNeeded: address &- UInt64(UInt(bitPattern: memory.base)))
    guard offset >= 0, offset < memory.size else { return nil }
    return offset / Self.pageSize * Self.pageSize
  }

  /// Puts a page into its place, and has all who wait for it go on.
  ///
  /// The corresponding request is `UFFDIO_COPY`.
  /// - Throws: `KVMError` naming the request, with `errno`.
  public func supply(
    _ bytes: [UInt8], at offset: Int, of memory: borrowing GuestMemory
  ) throws(KVMError) {
    require(
      bytes.count == Self.pageSize && offset >= 0 && offset % Self.pageSize == 0
        && offset <= memory.size - Self.pageSize,
      "\(bytes.count) bytes at \(offset) are no page of \(memory.size) bytes")
    let result = bytes.withUnsafeBytes {
      ckvm_supply(file.raw, memory.base + offset, $0.baseAddress!, $0.count)
    }
    try check("UFFDIO_COPY", result)
  }
}

extension SharedPages {
  /// Takes all pages away; memories that show them find zeros, or wait where somebody watches.
  ///
  /// The corresponding C function is `fallocate` with `FALLOC_FL_PUNCH_HOLE`.
  /// - Throws: `KVMError` naming the function, with `errno`.
  public func discard() throws(KVMError) {
    try check("fallocate", ckvm_punch_hole(file.raw, 0, size))
  }
}
