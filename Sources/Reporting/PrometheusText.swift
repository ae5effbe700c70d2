internal import ABIChecker

/// A soak's state for Prometheus: the text format that node_exporter's textfile collector reads.
public struct PrometheusText: Sendable {
  private var lines: [String] = []

  public init(_ state: SoakState) {
    let host = state.host
    add("info", "gauge", "What is being soaked.") { name in
      let labels = [
        ("version", state.version), ("kernel", host.kernel), ("backend", host.backend ?? "unknown"),
        ("clocksource", host.clocksource ?? "unknown"),
      ]
      return [name + Self.labels(labels) + " 1"]
    }
    add("running", "gauge", "1 while the soak goes on.", state.isFinished ? "0" : "1")
    add("updated_timestamp_seconds", "gauge", "When this was written.", "\(state.written)")
    add("elapsed_seconds", "gauge", "How long the soak has run.", Self.seconds(state.elapsed))
    add("rounds_total", "counter", "Rounds of all scenarios.", "\(state.rounds)")
    add(
      "retries_total", "counter", "Runs of a scenario that were needed because one could not tell.",
      "\(state.retries)")
    add(
      "readings_total", "counter", "Readings of the clock by guests.",
      "\(state.statistics.readings)")
    add(
      "updates_total", "counter", "Versions of a clock record that readers saw come.",
      "\(state.statistics.updates)")
    addDrift(state.statistics)
    addVerdicts(state)
  }

  /// Writes the text so that a collector sees all of it or what was there before.
  ///
  /// - Throws: `FileError` naming the path, the cause and a remedy.
  public func write(to path: String) throws(FileError) {
    try ReportFile.write(text, to: path)
  }

  public var text: String { lines.joined(separator: "\n") + "\n" }

  private mutating func addDrift(_ statistics: SoakStatistics) {
    let name = "step_back_seconds"
    add(name, "histogram", "The largest step back between two vCPUs, one a race.") { name in
      Self.histogram(name, statistics.spread, [("master_clock", "yes")])
        + Self.histogram(name, statistics.spreadWithoutMasterClock, [("master_clock", "no")])
    }
    add(
      "residual_abs_seconds", "histogram",
      "The clock's distance from what CLOCK_MONOTONIC_RAW and the multipliers predict."
    ) { Self.histogram($0, statistics.residual, []) }
    guard let drift = statistics.drift else { return }
    add(
      "residual_seconds", "gauge", "The newest of those distances, signed.",
      Self.seconds(drift.residual))
    add(
      "drift_seconds", "gauge", "What one machine's clock has gained on CLOCK_MONOTONIC_RAW.",
      Self.seconds(drift.gained))
    add(
      "drift_span_seconds", "gauge", "During what time.", Self.seconds(drift.span))
  }

  private mutating func addVerdicts(_ state: SoakState) {
    let tallies = state.tallies.sorted { $0.rule < $1.rule }
    add("verdicts_total", "counter", "Verdicts on each rule.") { name in
      tallies.flatMap { tally in
        [
          ("holds", tally.holds), ("observed", tally.observed),
          ("broken", tally.verdict.known == nil ? tally.broken : 0),
          ("known", tally.verdict.known == nil ? 0 : tally.broken),
          ("inconclusive", tally.inconclusive), ("not_tested", tally.notTested),
        ].map { outcome, count in
          name + Self.labels([("rule", tally.rule), ("outcome", outcome)]) + " \(count)"
        }
      }
    }
    add(
      "broken_rules", "gauge", "Rules that were broken, known deviations of the kernel left out.",
      "\(state.broken)")
  }

  private mutating func add(_ name: String, _ type: String, _ help: String, _ value: String) {
    add(name, type, help) { ["\($0) \(value)"] }
  }

  private mutating func add(
    _ name: String, _ type: String, _ help: String, _ samples: (String) -> [String]
  ) {
    let name = "kvmclock_soak_\(name)"
    let samples = samples(name)
    guard !samples.isEmpty else { return }
    lines += ["# HELP \(name) \(help)", "# TYPE \(name) \(type)"] + samples
  }

  static func histogram(
    _ name: String, _ histogram: Histogram, _ extra: [(String, String)]
  ) -> [String] {
    let total = histogram.count
    let known = histogram.cumulative
    // The same bounds whatever was seen: only such histograms of several hosts can be added up.
    let buckets = stride(from: 0, through: 32, by: 2).map { digits in
      let upTo: UInt64 = (1 << UInt64(digits)) - 1
      let count = digits < known.count ? known[digits].count : total
      return "\(name)_bucket\(labels(extra + [("le", seconds(upTo))])) \(count)"
    }
    return buckets + [
      "\(name)_bucket\(labels(extra + [("le", "+Inf")])) \(total)",
      "\(name)_sum\(labels(extra)) \(seconds(histogram.sum))",
      "\(name)_count\(labels(extra)) \(total)",
    ]
  }

  private static func labels(_ labels: [(String, String)]) -> String {
    guard !labels.isEmpty else { return "" }
    let pairs = labels.map { "\($0)=\"\(escape($1))\"" }
    return "{\(pairs.joined(separator: ","))}"
  }

  private static func escape(_ text: String) -> String {
    Plain.oneLine(text).reduce(into: "") { escaped, character in
      if character == "\\" || character == "\"" { escaped.append("\\") }
      escaped.append(character)
    }
  }

  /// Nanoseconds as seconds, exactly: a floating-point number would lose the last ones.
  static func seconds(_ nanoseconds: UInt64) -> String {
    let fraction = String(nanoseconds % 1_000_000_000)
    let zeros = String(repeating: "0", count: 9 - fraction.count)
    return "\(nanoseconds / 1_000_000_000).\(zeros)\(fraction)"
  }

  static func seconds(_ nanoseconds: Int64) -> String {
    (nanoseconds < 0 ? "-" : "") + seconds(nanoseconds.magnitude)
  }
}
