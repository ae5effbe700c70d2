internal import CKVM

/// Zeroed pages of host memory that any number of `GuestMemory` can show; they go with the last of them.
public struct SharedPages: ~Copyable, Sendable {
  let file: FileDescriptor
  /// The size in bytes.
  public let size: Int

  /// Makes `size` bytes, which a memory slot wants to be whole pages.
  ///
  /// The corresponding C functions are `memfd_create` and `ftruncate`.
  /// - Throws: `KVMError` naming the function, with `errno`.
  public init(size: Int) throws(KVMError) {
    let result = try check("memfd_create", ckvm_memfd_create("guest memory"))
    let file = FileDescriptor(owning: result)
    try check("ftruncate", ckvm_truncate(file.raw, size))
    self.file = file
    self.size = size
  }
}
