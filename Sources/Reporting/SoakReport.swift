internal import ABIChecker

extension SoakState {
  /// The report on all rounds so far.
  public func report() -> Report {
    let order = Dictionary(uniqueKeysWithValues: Rule.all.enumerated().map { ($1.id, $0) })
    let verdicts = tallies.map(\.verdict).sorted {
      order[$0.rule, default: .max] < order[$1.rule, default: .max]
    }
    var report = Report(version: version, host: host, seed: seed, verdicts: verdicts)
    report.hostname = hostname
    report.date = date
    report.retries = Int(clamping: retries)
    report.nanoseconds = elapsed
    report.files = files
    report.command = "soak"
    report.repeatOptions = device == "/dev/kvm" ? "" : " --device \(device)"
    report.notes = summary
    report.soak = self
    return report
  }

  /// What there is to say besides the verdicts.
  private var summary: [String] {
    var lines = [
      "soaked for \(Self.clock(elapsed)) in \(rounds) round\(rounds == 1 ? "" : "s"): \(Self.count(statistics.readings)) readings, "
        + "\(Self.count(statistics.updates)) updates"
    ]
    for (histogram, place) in [
      (statistics.spread, "in master-clock mode"),
      (statistics.spreadWithoutMasterClock, "without the master clock"),
    ] where histogram.count > 0 {
      lines.append(
        "largest step back between vCPUs \(place): \(histogram.largest) ns in \(histogram.count) races"
      )
    }
    if let drift = statistics.drift {
      lines.append(
        "one machine's clock against CLOCK_MONOTONIC_RAW: \(drift.gained) ns in "
          + "\(Self.clock(UInt64(max(0, drift.span)))), residual \(drift.residual) ns ± \(drift.uncertainty); "
          + "the largest residual \(statistics.residual.largest) ns")
    }
    if !isFinished {
      lines.append("it goes on, or was killed: this is what its last checkpoint holds")
    }
    if newPairs > 0 {
      lines.append("the master clock got a new pair \(newPairs) times; each began the drift anew")
    }
    for tally in tallies {
      guard let first = tally.firstBroken, tally.verdict.known == nil else { continue }
      lines.append(
        "\(tally.rule) broken in \(tally.broken) of \(tally.total) verdicts, first in round \(first) (seed \(seed &+ first))"
      )
    }
    return lines
  }

  /// One line for who watches, short enough for a terminal of 80 columns.
  public var progress: String {
    let residual = statistics.drift.map { "\($0.residual) ns" } ?? "-"
    return
      "\(Self.clock(elapsed))  \(broken > 0 ? "\(broken) BROKEN, " : "")\(Self.brief(statistics.readings)) reads, "
      + "spread \(statistics.spread.largest) ns, residual \(residual), "
      + "\(Self.brief(statistics.updates)) updates, \(retries) retries"
  }

  /// "8:00:03".
  static func clock(_ nanoseconds: UInt64) -> String {
    let seconds = nanoseconds / 1_000_000_000
    func two(_ value: UInt64) -> String { value < 10 ? "0\(value)" : "\(value)" }
    return "\(seconds / 3600):\(two(seconds / 60 % 60)):\(two(seconds % 60))"
  }

  /// "1.2 billion".
  static func count(_ value: UInt64) -> String {
    scaled(value, [" million", " billion", " trillion"], from: 1_000_000)
  }

  /// "1.2G".
  static func brief(_ value: UInt64) -> String { scaled(value, ["k", "M", "G", "T"], from: 1000) }

  private static func scaled(_ value: UInt64, _ names: [String], from least: UInt64) -> String {
    guard value >= least else { return "\(value)" }
    var size = least
    var names = names[...]
    while names.count > 1, value / 1000 >= size {
      size *= 1000
      names.removeFirst()
    }
    let tenths = value / (size / 10)
    return "\(tenths / 10).\(tenths % 10)\(names.first ?? "")"
  }
}
