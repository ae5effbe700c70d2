import FoundationEssentials
import Inside
import PVClock

/// An event of a watch: for people, for programs and for a command.
struct WatchReport {
  private let event: ClockEvent

  init(_ event: ClockEvent) { self.event = event }

  /// "2026-11-28T22:13:00Z stopped: …".
  var line: String { "\(date) \(event.kind.rawValue): \(message)" }

  var date: String {
    Date(timeIntervalSince1970: Double(event.after.realtime) / 1e9).formatted(.iso8601)
  }

  var message: String {
    let (old, new) = (event.before.page, event.after.page)
    var parts = [relation]
    if event.after.tsc < event.before.tsc { parts.append("the TSC went back") }
    if old.scale != new.scale {
      parts.append("the TSC's frequency went from \(kHz(old)) to \(kHz(new)) kHz")
    }
    if old.flags.contains(.tscStable) != new.flags.contains(.tscStable) {
      let word = new.flags.contains(.tscStable) ? "set" : "cleared"
      parts.append("the host \(word) PVCLOCK_TSC_STABLE_BIT")
    }
    parts.append(told)
    parts.append(
      "since the look before: clock \(signed(event.clockAdvance)), TSC \(signed(event.tscAdvance)), "
        + "CLOCK_REALTIME \(signed(event.realtimeAdvance)); version \(old.version) to \(new.version)"
    )
    return parts.joined(separator: "; ")
  }

  private var relation: String {
    let size = InsideText.time(event.moved.magnitude)
    guard event.isMoved else { return "clock and TSC kept together" }
    switch event.moved {
    case ..<0: return "the clock stood still or was set back by \(size) while the TSC ran on"
    default: return "the clock gained \(size) on the TSC"
    }
  }

  private var told: String {
    switch event.told {
    case .yes: "the host told the guest (PVCLOCK_GUEST_STOPPED)"
    case .unseen:
      "PVCLOCK_GUEST_STOPPED was not seen: the host did not set it, or this guest's kernel has cleared it"
    case .already: "PVCLOCK_GUEST_STOPPED was set before and still is"
    }
  }

  private func kHz(_ page: ClockPage) -> String { page.scale.tscKHz.map { "\($0)" } ?? "unknown" }

  private func signed(_ nanoseconds: Int64) -> String {
    (nanoseconds < 0 ? "-" : "+") + InsideText.time(nanoseconds.magnitude)
  }

  var json: String {
    let (before, after) = (event.before, event.after)
    let object = JSONEvent(
      event: event.kind.rawValue, time: date, told: event.told.rawValue, movedNs: event.moved,
      stoodStillNs: event.stoodStill, clockNs: event.clockAdvance, tscNs: event.tscAdvance,
      realtimeNs: event.realtimeAdvance, version: [before.page.version, after.page.version],
      flags: [before.page.flags.rawValue, after.page.flags.rawValue],
      tscKhz: [before.page.scale.tscKHz ?? 0, after.page.scale.tscKHz ?? 0], message: message)
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return (try? encoder.encode(object)).map { String(decoding: $0, as: UTF8.self) } ?? "{}"
  }

  var variables: [(String, String)] {
    [
      ("KVMCLOCK_EVENT", event.kind.rawValue), ("KVMCLOCK_TIME", date),
      ("KVMCLOCK_MESSAGE", message), ("KVMCLOCK_TOLD", event.told.rawValue),
      ("KVMCLOCK_MOVED_NS", "\(event.moved)"),
      ("KVMCLOCK_STOOD_STILL_NS", "\(event.stoodStill)"),
      ("KVMCLOCK_CLOCK_NS", "\(event.clockAdvance)"),
      ("KVMCLOCK_TSC_NS", "\(event.tscAdvance)"),
      ("KVMCLOCK_REALTIME_NS", "\(event.realtimeAdvance)"),
    ]
  }

  /// Pairs are what was before the event and after it.
  private struct JSONEvent: Encodable {
    var event, time, told: String
    var movedNs: Int64
    var stoodStillNs: UInt64
    var clockNs, tscNs, realtimeNs: Int64
    var version: [UInt32]
    var flags: [UInt8]
    var tscKhz: [UInt64]
    var message: String
  }
}

/// A watch for Prometheus: the text format that node_exporter's textfile collector reads.
struct WatchPrometheus {
  var watcher: Watcher
  var totals: WatchTotals
  var place, kernel, clocksource: String
  var isRunning: Bool

  var text: String {
    let page = watcher.newest.page
    var lines: [String] = []
    func add(_ name: String, _ type: String, _ help: String, _ samples: [(String, String)]) {
      let name = "kvmclock_inside_\(name)"
      lines += ["# HELP \(name) \(help)", "# TYPE \(name) \(type)"]
      lines += samples.map { "\(name)\($0.0) \($0.1)" }
    }
    let labels =
      "{record=\"\(escaped(place))\",kernel=\"\(escaped(kernel))\",clocksource=\"\(escaped(clocksource))\"}"
    add("info", "gauge", "What is watched.", [(labels, "1")])
    add("running", "gauge", "1 while the watch goes on.", [("", isRunning ? "1" : "0")])
    add(
      "updated_timestamp_seconds", "gauge", "When this was written.",
      [("", seconds(watcher.newest.realtime))])
    add("looks_total", "counter", "Looks at the record.", [("", "\(watcher.looks)")])
    add("updates_total", "counter", "New versions of the record.", [("", "\(watcher.updates)")])
    add(
      "events_total", "counter", "Events: clock and TSC parted, or the host told of a stop.",
      ClockEvent.Kind.allCases.map {
        ("{kind=\"\($0.rawValue)\"}", "\(totals.counts[$0] ?? 0)")
      })
    add(
      "stood_still_seconds_total", "counter",
      "How long the clock stood still while the TSC ran on.",
      [("", seconds(totals.stoodStill))])
    if let last = totals.last {
      add(
        "last_event_timestamp_seconds", "gauge", "When the last event was seen.",
        [("", seconds(last.after.realtime))])
      add(
        "last_event_moved_seconds", "gauge", "By how much the clock gained on the TSC then.",
        [("", (last.moved < 0 ? "-" : "") + seconds(last.moved.magnitude))])
    }
    add(
      "stopped_flag", "gauge", "PVCLOCK_GUEST_STOPPED of the record.",
      [("", page.flags.contains(.guestStopped) ? "1" : "0")])
    add(
      "stable_flag", "gauge", "PVCLOCK_TSC_STABLE_BIT of the record.",
      [("", page.flags.contains(.tscStable) ? "1" : "0")])
    return lines.joined(separator: "\n") + "\n"
  }

  private func seconds(_ nanoseconds: UInt64) -> String {
    let rest = String(nanoseconds % 1_000_000_000)
    return
      "\(nanoseconds / 1_000_000_000).\(String(repeating: "0", count: 9 - rest.count))\(rest)"
  }

  private func escaped(_ text: String) -> String {
    String(text.flatMap { $0 == "\\" || $0 == "\"" ? ["\\", $0] : $0 == "\n" ? [" "] : [$0] })
  }
}
