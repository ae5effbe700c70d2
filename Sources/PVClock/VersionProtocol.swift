/// How host and guest share a record without a lock: `version` is odd while the host writes.
///
/// Source: Documentation/virt/kvm/x86/msr.rst, "version"; arch/x86/include/asm/pvclock-abi.h.
public enum VersionProtocol {
  /// The odd version under which the host writes; a version found odd is left behind, not reused.
  ///
  /// Source: `kvm_setup_guest_pvclock()`, `kvm_write_wall_clock()`.
  public static func begun(_ version: UInt32) -> UInt32 {
    (version &+ 1) | 1
  }

  /// The even version that the host stores after the data.
  public static func finished(_ version: UInt32) -> UInt32 {
    version &+ 1
  }

  /// The version after one whole update: two more than an even one, three more than an odd one.
  public static func updated(_ version: UInt32) -> UInt32 {
    finished(begun(version))
  }

  /// Whether a record with this version is at rest.
  public static func isConsistent(_ version: UInt32) -> Bool {
    version & 1 == 0
  }

  /// How far `version` went from `start` to `end`, modulo 2^32.
  public static func advance(from start: UInt32, to end: UInt32) -> UInt32 {
    end &- start
  }

  /// Reads a whole clock record as a guest does; `nil` when no attempt met it at rest.
  ///
  /// Each attempt calls `word` with 0, and when that version is even with 1 to 7 and with 0 again;
  /// it counts when both versions agree. `word` must read shared memory each time, in this order.
  ///
  /// Source: `pvclock_read_begin()`, `pvclock_read_retry()`.
  public static func snapshot(attempts: Int, word: (Int) -> UInt32) -> ClockPage? {
    var attempt = 0
    while attempt < attempts {
      attempt += 1
      let version = word(0)
      guard isConsistent(version) else { continue }
      let words = [version] + (1..<ClockPage.size / 4).map(word)
      if word(0) == version {
        return ClockPage(words: words)
      }
    }
    return nil
  }
}
