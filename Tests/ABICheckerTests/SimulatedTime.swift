import PVClock

/// The host's clocks, and a scheduler that takes the core away between any two of their readings.
struct SimulatedTime {
  enum Noise {
    case none
    /// So many nanoseconds between any two steps.
    case always(UInt64)
    /// Mostly some nanoseconds, now and then up to 50 ms.
    case random(SeededGenerator)
  }

  /// What drives the host's clocks, by its name in sysfs.
  enum Source: String, CaseIterable {
    case tsc, hpet
    case hyperV = "hyperv_clocksource_tsc_page"

    /// How much faster than a TSC of just `tscKHz` it counts, and by how many nanoseconds; nil for the TSC.
    var oscillator: (partsPerBillion: Int64, tick: UInt64)? {
      switch self {
      case .tsc: nil
      case .hpet: (31_000, 70)
      case .hyperV: (-350, 100)
      }
    }

    /// Whether KVM can run a VM in master-clock mode on it.
    var allowsMasterClock: Bool { self != .hpet }
  }

  static let tscKHz: UInt32 = 2_596_118

  var noise = Noise.none

  /// Host TSC, in cycles: 45 minutes after boot.
  private(set) var cycles: UInt64 = 7_000_000_000_000

  private(set) var source: Source
  /// What earlier clocksources left CLOCK_MONOTONIC_RAW at, less what this one would have.
  private var carried: UInt64 = 0

  init(_ source: Source = .tsc) { self.source = source }

  /// CLOCK_MONOTONIC_RAW stands still for as long as it takes to read the new clocksource.
  mutating func switchSource(to other: Source, taking nanoseconds: UInt64) {
    let before = raw
    pass(nanoseconds: nanoseconds)
    source = other
    carried &+= before &- raw
  }

  /// CLOCK_MONOTONIC_RAW, in nanoseconds.
  var raw: UInt64 { counted &+ carried }

  private var counted: UInt64 {
    guard let own = source.oscillator else {
      let scale = ClocksourceScale(tscKHz: Self.tscKHz)!
      return UInt64((UInt128(cycles) * UInt128(scale.multiplier)) >> UInt128(scale.shift))
    }
    let parts = UInt128(1_000_000_000 + own.partsPerBillion)
    let exact = UInt128(cycles) * 1_000_000 * parts / 1_000_000_000 / UInt128(Self.tscKHz)
    return UInt64(exact) / own.tick * own.tick
  }

  mutating func pass(nanoseconds: UInt64) {
    cycles += nanoseconds * UInt64(Self.tscKHz) / 1_000_000
  }

  /// A point at which the scheduler may strike.
  mutating func pause() {
    switch noise {
    case .none: break
    case .always(let nanoseconds): pass(nanoseconds: nanoseconds)
    case .random(var random):
      let long = random.chance(12)
      pass(nanoseconds: UInt64(random.below(long ? 50_000_000 : 200)))
      noise = .random(random)
    }
  }
}
