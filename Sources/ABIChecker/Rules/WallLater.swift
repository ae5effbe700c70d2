internal import PVClock

// The wall clock's record after it was written, and written again.

extension Rule {
  static let wallOneshot = Rule(
    "WALL-ONESHOT",
    "The record is written at the write of the MSR and never again: not by time, not by KVM_SET_CLOCK, not by an entry or "
      + "a write of the system-time MSR.",
    sources: [
      .guest(
        "Linux, arch/x86/kernel/kvmclock.c, kvm_crash_shutdown(): only the system-time MSR is cleared before the memory is "
          + "used for another kernel"),
      .x86("kvm_write_wall_clock()"),
    ],
    method:
      "Read the record; wait, set the clock, enter, register again on both vCPUs; read it again.",
    scenarios: [.wallLater],
    coverage: [
      .observations(4, "records after a setting of the clock and an entry"),
      .each(
        ["KVM_SET_CLOCK", "an entry", "a write of the system-time MSR"], afterTheWrite),
    ]
  ) { timeline, findings in
    for write in timeline.wallWrites {
      guard let (first, start, bytes) = write.look else { continue }
      var seen: Set<String> = []
      for step in timeline.machines[write.machine].steps where step.index > write.index {
        if step.event.endsWallRecord { break }
        if case .setClock = step.event.action { seen.insert("KVM_SET_CLOCK") }
        if step.event.isSystemTimeWrite { seen.insert("a write of the system-time MSR") }
        if step.isEntry, seen.contains("KVM_SET_CLOCK") { seen.insert("an entry") }
        guard step.event.number > first.number,
          case .memory(let address, let later) = step.event.action, address.value == start,
          later.bytes.count == bytes.count, seen.contains("an entry") || later.bytes != bytes
        else { continue }
        for event in seen { findings.cover(event, of: afterTheWrite) }
        findings.expect(
          later.bytes == bytes, at: [write.event, first, step.event],
          "the bytes at \(Hex(start)) as the write of \(write.msr) left them: "
            + (write.record.map(describe) ?? ""),
          seen: describeWall(later.bytes, write))
      }
    }
  }

  private static let afterTheWrite = "events between the write and the second reading"

  static let wallFollowsSetclock = Rule(
    "WALL-FOLLOWS-SETCLOCK",
    "After KVM_SET_CLOCK the next write of the MSR gives the new epoch: it moves back by as much as the clock was set "
      + "forward.",
    sources: [.msr("MSR_KVM_WALL_CLOCK_NEW: the sum of both clocks is the current time")],
    method: "Write, set the clock by an hour and more forward and back, write again.",
    scenarios: [.wallLater],
    coverage: [
      .observations(3, "writes after a setting of the clock"),
      .each(["forward", "back"], "directions in which the clock was set"),
    ]
  ) { timeline, findings in
    let spans = timeline.realtimeSpans
    var last: (write: WallWrite, record: WallClock)?
    for write in timeline.wallWrites {
      guard let record = write.record else { continue }
      defer { last = (write, record) }
      guard let before = last, before.write.machine == write.machine,
        before.write.epoch != write.epoch, let epoch = timeline.epoch(of: write.step, spans),
        isExpressible(epoch.allowed)
      else { continue }
      let old = Int128(before.record.epochNanoseconds)
      let moved = Interval(epoch.allowed.lower - old, epoch.allowed.upper - old)
      guard moved.lower > 1_000_000_000 || moved.upper < -1_000_000_000 else { continue }
      let isCounted = findings.expect(
        Int128(record.epochNanoseconds) - old, in: moved, limit: Timeline.widestUseful,
        at: [before.write.event] + epoch.events,
        "the change of sec * 10^9 + nsec since the write before the setting",
        why: "CLOCK_REALTIME less kvmclock, which KVM_SET_CLOCK has moved the other way")
      if isCounted {
        findings.cover(
          moved.lower < 0 ? "forward" : "back", of: "directions in which the clock was set")
      }
    }
  }

  static let wallRewriteStable = Rule(
    "WALL-REWRITE-STABLE",
    "With the master clock the epoch does not depend on when the MSR is written: CLOCK_REALTIME and kvmclock are taken at "
      + "one reading of the TSC.",
    sources: [.commit("Linux 5d6d6a7d7e66 (6.7)")],
    method:
      "Write the MSR hundreds of times, and read CLOCK_REALTIME every 40 of them. From one write to the next the epoch moves "
      + "by no more than CLOCK_REALTIME's rate allows, measured before, during and after. A larger move is excused as a "
      + "step of CLOCK_REALTIME only if all larger moves between two of its readings go one way and these readings show "
      + "as much.",
    scenarios: [.wallRewrite],
    coverage: [
      .observations(200, "moves of the epoch"),
      .count(200, "writes one after the other"),
    ],
    needs: [.masterClock]
  ) { timeline, findings in
    var worst: Int128 = 0
    for rewrites in timeline.wallRewrites {
      // Moves too small to stand out may go one way and add up.
      if let all = rewrites.wholeMove {
        findings.expect(
          all.moved, in: all.allowed, limit: 50_000, at: all.events,
          "the move of the epoch over \(rewrites.writes.count) writes",
          why: "the most that the readings of CLOCK_REALTIME before and after them differ by",
          fits: all.isByTheWrites)
      }
      let moves = rewrites.moves
      let tooLarge = moves.filter { !$0.allowed.contains($0.moved) }
      let isOneWay =
        tooLarge.allSatisfy { $0.moved > 0 } || tooLarge.allSatisfy { $0.moved < 0 }
      let total = tooLarge.reduce(0) { $0 + $1.moved }
      let isStep = isOneWay && rewrites.allowed.contains(total)
      for move in moves {
        guard move.allowed.contains(move.moved) || !isStep else {
          findings.cannotTell(
            "the epoch moved by \(nanoseconds(move.moved)) between events \(move.events.map(\.number)): CLOCK_REALTIME may "
              + "have been stepped")
          continue
        }
        worst = max(worst, abs(move.moved))
        let isCounted = findings.expect(
          move.moved, in: move.allowed, limit: 2000, at: move.events,
          "the move of the epoch from one write to the next",
          why:
            "CLOCK_REALTIME's rate against CLOCK_MONOTONIC_RAW's, measured around the writes, and rounding",
          fits: move.isByTheWrites)
        if isCounted { findings.count("writes one after the other") }
      }
    }
    if findings.observed == 0 {
      findings.lacks(
        "no writes in master-clock mode with readings of CLOCK_REALTIME around them")
    }
    findings.detail = "the epoch within \(worst) ns from one write to the next"
  }

  static let wallDrift = Rule(
    "WALL-DRIFT",
    "The epoch is no constant: kvmclock runs at CLOCK_MONOTONIC_RAW's rate, CLOCK_REALTIME is disciplined by NTP.",
    sources: [.commit("Linux 53fafdbb8b21 (5.5)")],
    method: "The first and the last of hundreds of writes.",
    scenarios: [.wallRewrite],
    coverage: [.count(1, "pairs of writes a millisecond apart with their records")],
    isObservation: true
  ) { timeline, findings in
    let written = timeline.wallWrites.filter { $0.record != nil }
    guard let first = written.first, let last = written.last, first.epoch == last.epoch,
      let old = first.record, let new = last.record,
      case let elapsed = Int128(last.event.began.raw) - Int128(first.event.began.raw),
      elapsed >= 1_000_000
    else { return }
    let moved = Int128(new.epochNanoseconds) - Int128(old.epochNanoseconds)
    let spans = timeline.realtimeSpans
    let realtime = spans.first.flatMap { first in
      spans.last.map { $0.last.offset.lower - first.first.offset.lower }
    }
    findings.report(
      "the epoch moved by \(nanoseconds(moved)) in \(short(elapsed)), CLOCK_REALTIME by about "
        + "\(realtime.map(nanoseconds) ?? "?") against CLOCK_MONOTONIC_RAW")
  }
}

extension Event {
  /// Whether after this event a wall clock record need not be there any more.
  fileprivate var endsWallRecord: Bool {
    switch action {
    case .filled, .poked: true
    case .wroteMSR(let msr, _, _): MSR.isWallClock(msr)
    case .hostWroteMSR(_, let msr, _): MSR.isWallClock(msr)
    default: false
    }
  }
}

/// The bytes that a later look shows in the place of a record.
private func describeWall(_ bytes: [UInt8], _ write: WallWrite) -> String {
  guard let place = write.place, place.upperBound <= bytes.count,
    let record = WallClock(bytes: bytes[place]), record != write.record
  else { return "other bytes around it" }
  return describe(record)
}

/// Writes one after the other between two readings of CLOCK_REALTIME, on one pair of the master clock.
private struct WallRewrites {
  var span: RealtimeSpan
  var writes: [WallWrite]
  /// How far CLOCK_REALTIME's rate may be off CLOCK_MONOTONIC_RAW's, and kvmclock's too, in parts per billion.
  var slew, rateBound: Int128
  var rounding: Int128

  /// The move of the epoch from one write to another.
  struct Move {
    var moved: Int128
    var allowed: Interval
    var events: [Event]

    /// Whether it is too large by no more than a write took: two clocks read one after the other make that.
    var isByTheWrites: Bool {
      abs(allowed.distance(to: moved)) <= events.map(\.width).max() ?? 0
    }
  }

  var moves: [Move] {
    zip(writes, writes.dropFirst()).compactMap { earlier, later in
      let elapsed = earlier.event.elapsed(to: later.event).upper
      let slack = share(slew + rateBound, of: elapsed) + rounding
      return move(from: earlier, to: later, Interval(-slack, slack))
    }
  }

  /// From the first write to the last one.
  var wholeMove: Move? {
    guard let first = writes.first, let last = writes.last, first.index < last.index
    else { return nil }
    return move(from: first, to: last, allowed)
  }

  /// The most that all moves together may come to: CLOCK_REALTIME may have gone from one of its readings to the other at any
  /// rate or in a step.
  var allowed: Interval {
    let elapsed = span.first.event.elapsed(to: span.last.event).upper
    let most = span.offset.width + share(slew + rateBound, of: elapsed) + rounding
    return Interval(-most, most)
  }

  private func move(from earlier: WallWrite, to later: WallWrite, _ allowed: Interval) -> Move? {
    guard let old = earlier.record, let new = later.record else { return nil }
    return Move(
      moved: Int128(new.epochNanoseconds) - Int128(old.epochNanoseconds), allowed: allowed,
      events: [earlier.event, later.event])
  }
}

extension Timeline {
  /// The writes between each two readings of CLOCK_REALTIME that have further ones before and after them.
  fileprivate var wallRewrites: [WallRewrites] {
    let spans = realtimeSpans
    let written = wallWrites.filter { $0.record != nil }
    guard spans.count >= 3 else { return [] }
    return (1..<(spans.count - 1)).flatMap { at -> [WallRewrites] in
      let span = spans[at]
      let slews = spans[(at - 1)...(at + 1)].compactMap(\.slew)
      guard slews.count == 3, let slew = slews.max() else { return [] }
      let within = written.filter { span.first.index < $0.index && $0.index < span.last.index }
      var runs: [WallRewrites] = []
      for write in within {
        if let last = runs.last?.writes.last, isOnMasterClock(from: last, to: write) {
          runs[runs.count - 1].writes.append(write)
        } else {
          runs.append(
            WallRewrites(
              span: span, writes: [write], slew: slew, rateBound: rateBound, rounding: rounding))
        }
      }
      return runs
    }
  }

  private func isOnMasterClock(from earlier: WallWrite, to later: WallWrite) -> Bool {
    guard earlier.epoch == later.epoch,
      let before = observations.last(where: { $0.index < earlier.index }),
      let after = observations.first(where: { $0.index > later.index })
    else { return false }
    return before.epoch == earlier.epoch && after.epoch == earlier.epoch && before.isStable
      && after.isStable && !mayHaveNewPair(from: before.event, to: after.event)
  }
}
