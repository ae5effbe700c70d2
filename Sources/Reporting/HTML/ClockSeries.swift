internal import ABIChecker

/// What one reader saw of the clock, against CLOCK_MONOTONIC_RAW.
struct ClockSeries {
  struct Point {
    var event: Int
    /// CLOCK_MONOTONIC_RAW and the clock's value, in nanoseconds since the first of the history.
    var raw: Double
    var value: Double
    /// By how much the clock advanced more than CLOCK_MONOTONIC_RAW did since the reader's first look.
    var residual: Double
    /// Without the master clock a record may run ahead by the time that its making took.
    var isStable: Bool
  }

  var name: String
  var points: [Point]

  /// The vCPUs' readings and KVM_GET_CLOCK of one history, as far as their TSC tells when they were made; none where the
  /// clock was set or a TSC was moved meanwhile.
  static func all(in timeline: Timeline, line: HostLine) -> [ClockSeries] {
    let samples = timeline.samples.filter { $0.tsc != nil }
    guard !timeline.movesTSC, let first = samples.first,
      samples.allSatisfy({ $0.epoch == first.epoch }),
      let shift = shift(of: samples)
    else { return [] }
    let readers = Dictionary(grouping: samples, by: \.vcpu)
    let origin = line.raw(first.event.began.raw)
    return readers.keys.sorted { ($0 ?? .max) < ($1 ?? .max) }.map { reader in
      let own = (readers[reader] ?? []).prefix(400)
      let start = own.first.map { moment($0, shift, line) } ?? 0
      let points = own.map { sample in
        let raw = moment(sample, shift, line)
        let advance = Double(Int64(bitPattern: sample.value &- (own.first?.value ?? 0)))
        return Point(
          event: sample.event.number, raw: raw - origin,
          value: Double(Int64(bitPattern: sample.value &- first.value)),
          residual: advance - (raw - start), isStable: sample.isStable)
      }
      return ClockSeries(name: reader.map { "vcpu\($0)" } ?? "KVM_GET_CLOCK", points: points)
    }
  }

  private static func moment(_ sample: ClockSample, _ shift: Int64, _ line: HostLine) -> Double {
    let host = sample.vcpu == nil ? 0 : shift
    return line.raw(atTSC: (sample.tsc ?? 0) &- UInt64(bitPattern: host))
  }

  /// By how much the guests' TSC is ahead of the host's: each reading was made within its bracket. Nil if no one
  /// number fits all.
  private static func shift(of samples: [ClockSample]) -> Int64? {
    var (least, most) = (Int64.min, Int64.max)
    for sample in samples where sample.vcpu != nil {
      guard let tsc = sample.tsc else { continue }
      least = max(least, Int64(bitPattern: tsc &- sample.event.ended.tsc))
      most = min(most, Int64(bitPattern: tsc &- sample.event.began.tsc))
    }
    guard least <= most else { return nil }
    if least <= 0, most >= 0 { return 0 }
    return least + (most - least) / 2
  }
}

/// How far vCPUs' clocks are apart at one moment.
struct ClockSpread {
  struct Point {
    var event: Int
    var vcpu: Int
    var raw: Double
    /// This vCPU's clock less that of the vCPU that was read before, both at the same TSC, in nanoseconds.
    var distance: Double
  }

  var vcpus: Int
  var points: [Point]

  /// One point for each reading of a vCPU's record while other vCPUs' were known, if their TSCs are in step.
  init?(_ timeline: Timeline) {
    guard !timeline.movesTSC else { return nil }
    let samples = timeline.samples.filter { $0.page != nil && $0.tsc != nil }
    guard let first = samples.first else { return nil }
    var newest: [Int: ClockSample] = [:]
    var epoch = first.epoch
    var points: [Point] = []
    for sample in samples {
      guard let vcpu = sample.vcpu, let tsc = sample.tsc else { continue }
      if sample.epoch != epoch { newest = [:] }
      epoch = sample.epoch
      newest[vcpu] = sample
      let others = newest.values.filter { $0.vcpu != vcpu }
      guard let other = others.max(by: { $0.event.number < $1.event.number }), let page = other.page
      else { continue }
      points.append(
        Point(
          event: sample.event.number, vcpu: vcpu,
          raw: Double(Int64(bitPattern: sample.event.began.raw &- first.event.began.raw)),
          distance: Double(Int64(bitPattern: sample.value &- page.systemTime(atTSC: tsc)))))
    }
    guard points.count >= 2 else { return nil }
    self.points = Array(points.prefix(600))
    self.vcpus = Set(samples.compactMap(\.vcpu)).count
  }

  var worst: Double { points.map { abs($0.distance) }.max() ?? 0 }
}
