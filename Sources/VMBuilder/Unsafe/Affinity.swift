internal import CKVM
public import KVM

/// On which of the host's CPUs a thread may run.
public struct Affinity: Hashable, Sendable {
  private static let words = 1024
  private var mask: [UInt64]

  /// That of the thread which asks.
  public static func current() throws(KVMError) -> Affinity {
    var mask = [UInt64](repeating: 0, count: words)
    let result = mask.withUnsafeMutableBytes {
      ckvm_get_affinity($0.baseAddress!, $0.count)
    }
    guard result >= 0 else { throw KVMError(request: "sched_getaffinity", errno: -result) }
    return Affinity(mask: mask)
  }

  /// One CPU alone.
  public init?(cpu: Int) {
    guard cpu >= 0, cpu < Self.words * 64 else { return nil }
    mask = [UInt64](repeating: 0, count: Self.words)
    mask[cpu / 64] = 1 << UInt64(cpu % 64)
  }

  private init(mask: [UInt64]) { self.mask = mask }

  /// The CPUs' numbers.
  public var cpus: [Int] {
    (0..<mask.count * 64).filter { mask[$0 / 64] >> UInt64($0 % 64) & 1 == 1 }
  }

  /// Binds the thread which asks to these CPUs, and moves it there.
  public func apply() throws(KVMError) {
    let result = mask.withUnsafeBytes { ckvm_set_affinity($0.baseAddress!, $0.count) }
    guard result >= 0 else { throw KVMError(request: "sched_setaffinity", errno: -result) }
  }
}
