internal import CKVM

/// A kernel struct that ends in a flexible array, in zeroed memory that is freed with its owner.
struct FlexibleArray<Header, Element>: ~Copyable {
  let header: UnsafeMutablePointer<Header>
  let elements: UnsafeMutableBufferPointer<Element>

  /// Room for `count` elements; `locate` is the C accessor of the flexible member.
  init(count: Int, locate: (UnsafeMutablePointer<Header>) -> UnsafeMutablePointer<Element>) {
    let size = MemoryLayout<Header>.stride + count * MemoryLayout<Element>.stride
    let alignment = max(MemoryLayout<Header>.alignment, MemoryLayout<Element>.alignment)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: alignment)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    header = memory.assumingMemoryBound(to: Header.self)
    elements = UnsafeMutableBufferPointer(start: locate(header), count: count)
  }

  deinit {
    UnsafeMutableRawPointer(header).deallocate()
  }

  /// Hands the struct to a wrapper; borrowing `self` keeps the memory for as long as the call.
  func call(_ wrapper: (UnsafeMutablePointer<Header>) -> Int32) -> Int32 {
    wrapper(header)
  }

  /// The first `count` elements, or all where the kernel claims to have written more.
  func prefix(_ count: UInt32) -> [Element] {
    Array(elements.prefix(Int(count)))
  }
}

extension FlexibleArray<kvm_cpuid2, kvm_cpuid_entry2> {
  init(cpuidEntries count: Int) {
    self.init(count: count, locate: ckvm_cpuid2_entries)
    header.pointee.nent = UInt32(count)
  }
}

extension FlexibleArray<kvm_msrs, kvm_msr_entry> {
  init(msrs: [(index: UInt32, value: UInt64)]) {
    self.init(count: msrs.count, locate: ckvm_msrs_entries)
    header.pointee.nmsrs = UInt32(msrs.count)
    for (slot, msr) in msrs.enumerated() {
      elements[slot] = kvm_msr_entry(index: msr.index, reserved: 0, data: msr.value)
    }
  }
}

extension FlexibleArray<kvm_msr_list, UInt32> {
  init(indices count: Int) {
    self.init(count: count, locate: ckvm_msr_list_indices)
    header.pointee.nmsrs = UInt32(count)
  }
}

extension FlexibleArray<kvm_signal_mask, UInt8> {
  /// The kernel takes a signal set of exactly 8 bytes, bit n - 1 for signal n.
  init(signals: Set<Int32>) {
    self.init(count: 8, locate: ckvm_signal_mask_bytes)
    header.pointee.len = 8
    for signal in signals {
      require((1...64).contains(signal), "signal \(signal) is not in 1...64")
      let place = Int(signal - 1) / 8
      // Not by `|=`, which Swift 6.3 does not compile for Thread Sanitizer.
      elements[place] = elements[place] | 1 << UInt8((signal - 1) % 8)
    }
  }
}
