internal import CKVM

/// The registers of a vCPU's local APIC.
public struct LocalAPIC: Hashable, Sendable {
  /// The register page as KVM keeps it: 1,024 bytes.
  public private(set) var bytes: [UInt8]

  /// Registers that are all zero.
  public init() {
    bytes = [UInt8](repeating: 0, count: MemoryLayout<kvm_lapic_state>.size)
  }

  /// A 32-bit register by its offset in the page, such as 0x20 for the APIC id.
  public subscript(offset: Int) -> UInt32 {
    get {
      (0..<4).reduce(0) { $0 | UInt32(bytes[offset + $1]) << UInt32($1 * 8) }
    }
    set {
      for index in 0..<4 {
        bytes[offset + index] = UInt8(truncatingIfNeeded: newValue >> UInt32(index * 8))
      }
    }
  }
}

// Swift imports the page as a tuple of 1,024 elements.
extension LocalAPIC {
  init(_ state: kvm_lapic_state) {
    bytes = withUnsafeBytes(of: state) { Array($0) }
  }

  var kernelState: kvm_lapic_state {
    var state = kvm_lapic_state()
    withUnsafeMutableBytes(of: &state) { $0.copyBytes(from: bytes) }
    return state
  }
}
