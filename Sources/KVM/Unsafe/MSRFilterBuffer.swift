internal import CKVM
internal import Glibc

extension MSRFilter {
  /// Calls `body` with the filter as the kernel takes it, its bitmaps in memory that lasts as long.
  ///
  /// The kernel reads each bitmap in whole 64-bit words, so each is padded to that.
  /// - Throws: `KVMError` with `EINVAL` where a bitmap is too short or the ranges are too many.
  func withKernelFilter(
    _ body: (inout kvm_msr_filter) -> Int32
  ) throws(KVMError) -> Int32 {
    try validate()
    let words = ranges.map { (Int($0.count) + 63) / 64 }
    let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: words.reduce(1, +))
    defer { memory.deallocate() }
    memory.initialize(repeating: 0, count: words.reduce(1, +))
    var filter = kvm_msr_filter()
    filter.flags = UInt32(
      allowsByDefault ? KVM_MSR_FILTER_DEFAULT_ALLOW : KVM_MSR_FILTER_DEFAULT_DENY)
    var next = memory
    for (slot, range) in ranges.enumerated() {
      let bytes = UnsafeMutableRawBufferPointer(start: next, count: words[slot] * 8)
      bytes.copyBytes(from: range.bitmap.prefix(bytes.count))
      ckvm_msr_filter_ranges(&filter)[slot] = kvm_msr_filter_range(
        flags: range.flags.rawValue, nmsrs: range.count, base: range.base,
        bitmap: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
      next += words[slot]
    }
    return body(&filter)
  }

  private func validate() throws(KVMError) {
    func refusal(_ remedy: String) -> KVMError {
      KVMError(request: "KVM_X86_SET_MSR_FILTER", errno: EINVAL, remedy: remedy)
    }
    guard ranges.count <= Int(KVM_MSR_FILTER_MAX_RANGES) else {
      throw refusal("KVM takes at most \(KVM_MSR_FILTER_MAX_RANGES) ranges, not \(ranges.count).")
    }
    for range in ranges where range.bitmap.count < (Int(range.count) + 7) / 8 {
      let base = "0x" + String(range.base, radix: 16)
      let bytes = range.bitmap.count
      throw refusal("The range at \(base) has \(range.count) MSRs, but \(bytes) bytes of bits.")
    }
  }
}
