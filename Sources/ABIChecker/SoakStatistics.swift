/// What many runs of the scenarios saw, in numbers that take no more room the longer it lasts.
public struct SoakStatistics: Hashable, Sendable, Codable {
  /// Readings of the clock by guests.
  public private(set) var readings: UInt64 = 0
  /// Versions of a record that readers saw come.
  public private(set) var updates: UInt64 = 0
  /// The worst step back between vCPUs in each race in master-clock mode, in nanoseconds.
  public private(set) var spread = Histogram()
  /// The same without the master clock, where the ABI allows it.
  public private(set) var spreadWithoutMasterClock = Histogram()
  /// How far the clock was from what CLOCK_MONOTONIC_RAW and the two multipliers predict, in nanoseconds.
  public private(set) var residual = Histogram()
  /// The newest of those.
  public private(set) var drift: Drift?

  /// How a clock advanced against CLOCK_MONOTONIC_RAW since the first look at it.
  public struct Drift: Hashable, Sendable, Codable {
    /// What CLOCK_MONOTONIC_RAW counted, in nanoseconds.
    public var span: Int64
    /// The clock's advance less that.
    public var gained: Int64
    /// The clock's advance less the middle of what was predicted.
    public var residual: Int64
    /// Half the width of what was predicted.
    public var uncertainty: Int64
  }

  public init() {}

  public mutating func add(_ timeline: Timeline) {
    for event in timeline.history.events { count(event) }
    for parts in timeline.races {
      let worst = parts.map(\.result.worst).min() ?? 0
      if parts.contains(where: { $0.result.unstable > 0 }) {
        spreadWithoutMasterClock.add(worst.magnitude)
      } else {
        spread.add(worst.magnitude)
      }
    }
    for advance in timeline.rateAdvances {
      let new = Drift(advance)
      residual.add(new.residual.magnitude)
      drift = new
    }
  }

  /// Whether numbers that were read from a file can be gone on with.
  public var isSound: Bool {
    [spread, spreadWithoutMasterClock, residual].allSatisfy(\.isSound)
  }

  private mutating func count(_ event: Event) {
    let (reads, versions): (UInt64, UInt64) =
      switch event.action {
      case .read: (1, 0)
      case .looped(_, let result): (result.reads, result.versions)
      case .raced(_, _, let result): (result.reads, result.versions)
      // Its own record's loop is written down as `looped` as well.
      case .watched("sampler", let owner, _, _) where event.actor == .vcpu(owner): (0, 0)
      case .watched(_, _, _, let result): (result.reads, result.versions)
      case .stormed(_, let writes, let versions): (writes, versions)
      case .measured(let reads, _, _): (reads, 0)
      default: (0, 0)
      }
    readings = readings.saturating(adding: reads)
    updates = updates.saturating(adding: versions)
  }
}

extension SoakStatistics.Drift {
  fileprivate init(_ advance: RateAdvance) {
    let middle = (advance.allowed.lower + advance.allowed.upper) / 2
    let raw = (advance.raw.lower + advance.raw.upper) / 2
    span = Int64(clamping: raw)
    gained = Int64(clamping: advance.seen - raw)
    residual = Int64(clamping: advance.seen - middle)
    uncertainty = Int64(clamping: advance.allowed.width / 2)
  }
}
