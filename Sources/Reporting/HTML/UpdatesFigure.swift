internal import ABIChecker
internal import PVClock

/// The updates of records over time.
struct RecordUpdates {
  struct Update {
    var event: Int
    var raw: Double
    var version: UInt32
    var isStable: Bool
    var isStopped: Bool
  }

  struct Lane {
    var vcpu: Int
    var updates: [Update]
  }

  var lanes: [Lane] = []
  /// When machines were made, or the clock was set.
  var settings: [Double] = []
  var end = 0.0
  let start: UInt64

  static let most = 6

  init?(_ timeline: Timeline) {
    let looks = timeline.looks
    guard let first = looks.first, let last = looks.last else { return nil }
    start = first.event.began.raw
    let byVCPU = Dictionary(grouping: looks, by: \.vcpu)
    for vcpu in byVCPU.keys.sorted().prefix(Self.most) {
      var updates: [Update] = []
      var seen: ClockPage?
      for look in byVCPU[vcpu] ?? [] where look.page != seen && updates.count < 300 {
        seen = look.page
        updates.append(
          Update(
            event: look.event.number, raw: moment(look.event.ended), version: look.page.version,
            isStable: look.page.flags.contains(.tscStable),
            isStopped: look.page.flags.contains(.guestStopped)))
      }
      lanes.append(Lane(vcpu: vcpu, updates: updates))
    }
    end = moment(last.event.ended)
    settings = timeline.history.events.filter { event in
      switch event.action {
      case .vmCreated, .setClock: event.ended.raw >= start
      default: false
      }
    }.prefix(100).map { moment($0.ended) }
  }

  private func moment(_ instant: Instant) -> Double {
    Double(Int64(bitPattern: instant.raw &- start))
  }

  /// How often a flag came or went.
  var changes: Int {
    lanes.reduce(0) { sum, lane in
      sum
        + zip(lane.updates, lane.updates.dropFirst()).count {
          $0.isStable != $1.isStable || $0.isStopped != $1.isStopped
        }
    }
  }

  var hasStopped: Bool { lanes.contains { $0.updates.contains(where: \.isStopped) } }
}

extension Figure {
  /// Each update of the records on an axis of time, with both flags.
  static func updates(_ timeline: Timeline) -> Figure? {
    guard let updates = RecordUpdates(timeline), updates.end > 0 else { return nil }
    let x = Axis([0, updates.end], from: Frame.left, to: Frame.right, least: 1000)
    let height = 34.0
    let bottom = 22 + height * Double(updates.lanes.count)
    var parts = Frame.time(x, bottom: bottom, tops: [(18, bottom)])
    parts += updates.settings.map { SVG.line(x.place($0), 18, x.place($0), bottom, "setting") }
    for (index, lane) in updates.lanes.enumerated() {
      let y = 22 + height * Double(index)
      parts.append(SVG.text(Frame.left - 8, y + 17, "vcpu\(lane.vcpu)", "tick end"))
      parts += bands(lane, x, y, until: updates.end)
    }
    let name = timeline.history.header.name
    let count = updates.lanes.reduce(0) { $0 + $1.updates.count }
    return Figure(
      id: "updates-\(name)", title: "Updates of the record in \(name)",
      caption: """
        \(count) different records that were seen, each from when it was seen first\
        \(updates.settings.isEmpty ? "" : "; dashed: a machine was made, or its clock set").
        """,
      drawing: SVG.drawing(
        Frame.width, bottom + 42, label: "Updates of the clock records in \(name)", parts),
      legend: [("stable", "PVCLOCK_TSC_STABLE_BIT"), ("unstable", "without it")]
        + (updates.hasStopped ? [("halted", "PVCLOCK_GUEST_STOPPED")] : []))
  }

  private static func bands(
    _ lane: RecordUpdates.Lane, _ x: Axis, _ y: Double, until end: Double
  ) -> [HTML] {
    lane.updates.enumerated().flatMap { index, update -> [HTML] in
      let next = index + 1 < lane.updates.count ? lane.updates[index + 1].raw : end
      let left = x.place(update.raw)
      let title =
        "event \(update.event): version \(update.version)"
        + (update.isStable ? ", STABLE" : "") + (update.isStopped ? ", GUEST_STOPPED" : "")
      var parts = [
        SVG.box(
          left, y + 6, x.place(next) - left, 14, update.isStable ? "stable" : "unstable",
          title: title),
        SVG.line(left, y + 3, left, y + 21, lane.updates.count > 25 ? "update thin" : "update"),
      ]
      if update.isStopped {
        parts.append(SVG.box(left, y + 21, x.place(next) - left, 4, "halted", title: title))
      }
      return parts
    }
  }
}
