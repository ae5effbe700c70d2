internal import PVClock

// Loops that ran side by side on several vCPUs, as rules need them.

/// One vCPU's part in a race.
struct RacePart {
  var event: Event
  /// Place of the event in the history, from 0.
  var index: Int
  var race: Int
  var owner: Int
  var result: RaceResult
}

extension Timeline {
  /// The races of the history, each with all who took part.
  var races: [[RacePart]] {
    var races: [[RacePart]] = []
    for (index, event) in history.events.enumerated() {
      guard case .raced(let race, let owner, let result) = event.action else { continue }
      let part = RacePart(event: event, index: index, race: race, owner: owner, result: result)
      if races.last?.first?.race == race {
        races[races.count - 1].append(part)
      } else {
        races.append([part])
      }
    }
    return races
  }

  /// By how much the record that a racer used may run ahead: by the length of the entry that made it, or of the race if it
  /// was made then; and by the drift since.
  func lead(of part: RacePart) -> Int128? {
    guard let first = observations.first(where: { $0.index == part.index }) else { return nil }
    let lead = part.result.versions == 0 ? first.lead : max(first.lead, part.event.width)
    return lead + drift(until: first) + rounding
  }

  /// The most that the making of a version took: from its TSC, or the last reading before it, to its first reading.
  fileprivate static func making(of later: Stretch, after earlier: Stretch) -> Int128 {
    let cycles = min(
      later.firstTSC &- later.page.tscTimestamp, later.firstTSC &- earlier.lastTSC)
    return Int128(later.page.scale.nanoseconds(cycles: cycles))
  }
}

extension Findings {
  /// Races with PVCLOCK_TSC_STABLE_BIT in which nobody may read less than the maximum before. Counts "racers".
  mutating func expectNoStepBack(
    inRaces timeline: Timeline, on record: String, where isMeant: ([RacePart]) -> Bool
  ) {
    var figures: [String] = []
    for parts in timeline.races where isMeant(parts) {
      guard parts.allSatisfy({ $0.result.unstable == 0 }) else {
        lacks("without PVCLOCK_TSC_STABLE_BIT vCPUs' clocks are only near to each other")
        continue
      }
      for part in parts {
        let slack = timeline.allowedStepBack(in: part)
        count("racers")
        expect(
          part.result.backwards == 0 || -Int128(part.result.worst) <= slack, at: [part.event],
          "no reading of \(part.event.actor) from \(record) below the maximum before it, in \(part.result.reads)",
          seen: describeSteps(part.result))
      }
      if let shortage = parts.shortage(meeting: 2) { sawTooLittle(shortage) }
      figures.append(parts.figures)
    }
    detail = figures.joined(separator: "; ")
  }

  /// Each version that a vCPU saw of its own record begins no further below the end of the version before it than it
  /// took to make that one.
  mutating func expectSteps(in result: WatchResult, of event: Event, _ timeline: Timeline) {
    let first = timeline.observations.first {
      $0.event.actor == event.actor && $0.event.ended.raw == event.ended.raw
    }
    var lead = max(first?.lead ?? 0, event.width)
    let slack = timeline.rounding + (first.map { timeline.drift(until: $0) } ?? 0)
    for (earlier, later) in result.neighbours {
      let step = difference(later.first, earlier.last)
      expect(
        step >= -(lead + slack), at: [event],
        "\(event.actor)'s clock at version \(later.page.version) to begin at \(earlier.last) ns or above (less "
          + "\(nanoseconds(lead + slack)): the record before took that long to make)",
        seen: "\(later.first) ns, a step of \(nanoseconds(step))")
      lead = Timeline.making(of: later, after: earlier)
    }
  }
}

extension Timeline {
  /// By how much a racer may read less than the maximum: not at all, unless the master clock may have got a new pair.
  fileprivate func allowedStepBack(in part: RacePart) -> Int128 {
    guard mayHaveNewPair(from: part.event, to: part.event),
      let seen = observations.first(where: { $0.index == part.index })
    else { return 0 }
    return drift(until: seen) + rounding
  }
}

extension [RacePart] {
  /// Why a race says nothing, if so. Where the clocks are the same, two of the racers have to meet the other's maximum;
  /// where one may run ahead, that one never does.
  func shortage(meeting count: Int) -> String? {
    let workers = filter { $0.result.reads >= 1000 }
    let meeting = workers.filter { $0.result.foreign >= 100 }
    guard Set(workers.map(\.event.actor)).count >= 2,
      Set(meeting.map(\.event.actor)).count >= count
    else {
      return "\(figures); needs two vCPUs with 1000 readings, 100 of them compared"
        + (count < 2 ? " on one of them" : "")
    }
    return nil
  }

  /// Who read how often, and how often against somebody else's maximum.
  var figures: String {
    map {
      "\($0.event.actor) \($0.result.reads) readings, \($0.result.foreign) compared with another vCPU's"
    }
    .joined(separator: ", ")
  }
}

/// What two loops did side by side, one that writes the MSR and one that reads and watches the writer's version.
struct Storm {
  private var writes: UInt64 = 0
  private var reads: UInt64 = 0
  private var witnessed: UInt64 = 0
  private var loops = 0
  private var isStable = true

  mutating func write(_ result: LoopResult) {
    loops += 1
    // A write that KVM served shows in the version; the guest's own word for it proves nothing.
    writes = max(writes, min(result.reads, result.versions))
    isStable = isStable && result.unstable == 0
  }

  mutating func read(_ result: LoopResult) {
    loops += 1
    reads = max(reads, result.reads)
    witnessed = max(witnessed, result.witnessed ?? 0)
  }

  private var figures: String {
    "\(writes) writes that moved the version, \(witnessed) changes of it seen between \(reads) readings on another vCPU"
  }

  /// Whether enough was done side by side.
  ///
  /// - Parameter isStable: whether the sentence is about a VM in master-clock mode.
  func conclude(_ findings: inout Findings, isStable: Bool) {
    findings.detail = figures
    guard loops > 0 else { return }
    guard isStable == self.isStable else {
      return findings.lacks(
        isStable
          ? "without PVCLOCK_TSC_STABLE_BIT the clock is only near to monotone"
          : "the VM stayed in master-clock mode")
    }
    if writes >= 499, witnessed >= 50, reads >= 1000 {
      findings.count(Self.enough)
    } else {
      findings.sawTooLittle("\(figures); needs 499, 50 and 1000")
    }
  }

  /// What `conclude` counts.
  static let enough = "storms with enough writes and readings side by side"
}

/// The steps back that a racer counted, with the worst one in full.
func describeSteps(_ result: RaceResult) -> String {
  "\(result.backwards) steps back, the worst by \(nanoseconds(-Int128(result.worst))): "
    + "\(result.worstBefore) ns (TSC \(result.worstBeforeTSC)), then \(result.worstAfter.value) ns (TSC "
    + "\(result.worstAfter.tsc), \(describe(result.worstAfter.page)))"
}
