internal import CKVM
internal import Glibc

/// A mapping of whole pages that is unmapped when the last who refers to it goes away.
///
/// It may cross threads because it hands out an address and nothing else; who accesses the memory
/// behind it answers for the order of the accesses.
final class Mapping: @unchecked Sendable {
  let base: UnsafeMutableRawPointer
  let size: Int

  /// Maps `size` bytes of private, zeroed memory.
  ///
  /// The corresponding C function is `mmap`.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  convenience init(anonymous size: Int) throws(KVMError) {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    try self.init(descriptor: -1, size: size, flags: flags)
  }

  /// Maps `size` bytes of a file from `offset` on, shared with the kernel.
  ///
  /// The corresponding C function is `mmap`.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  convenience init(
    shared descriptor: borrowing FileDescriptor, offset: Int = 0, size: Int
  ) throws(KVMError) {
    try self.init(descriptor: descriptor.raw, offset: offset, size: size, flags: MAP_SHARED)
  }

  /// Maps the first bytes of a file over what was mapped here.
  ///
  /// The corresponding C function is `mmap`, with `MAP_FIXED`.
  /// - Throws: `KVMError` naming `mmap`, with `errno`.
  func replace(by descriptor: borrowing FileDescriptor) throws(KVMError) {
    try check("mmap", ckvm_map_over(descriptor.raw, base, size))
  }

  /// Changes what the process may do with these pages.
  ///
  /// The corresponding C function is `mprotect`.
  /// - Throws: `KVMError` naming `mprotect`, with `errno`.
  func allow(_ access: MemoryAccess) throws(KVMError) {
    let rights =
      (access.contains(.read) ? PROT_READ : 0) | (access.contains(.write) ? PROT_WRITE : 0)
    if mprotect(base, size, rights) != 0 { throw KVMError(request: "mprotect", errno: errno) }
  }

  private init(
    descriptor: Int32, offset: Int = 0, size: Int, flags: Int32
  ) throws(KVMError) {
    guard size > 0 else { throw KVMError(request: "mmap", errno: EINVAL) }
    var mapped: UnsafeMutableRawPointer?
    try check(
      "mmap",
      ckvm_map(descriptor, offset, size, PROT_READ | PROT_WRITE, flags, &mapped))
    guard let mapped else { throw KVMError(request: "mmap", errno: ENOMEM) }
    self.base = mapped
    self.size = size
  }

  deinit {
    _ = munmap(base, size)
  }
}
