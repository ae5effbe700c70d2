import ABIChecker
import Inside

/// What `kvmclock inside` tells people besides the verdicts.
enum InsideText {
  static func figures(_ view: GuestView, _ timeline: Timeline) -> [String] {
    guard let record = view.record else { return withoutRecord(view) }
    let figures = InsideFigures(timeline)
    var lines = [line("record", "\(record.place)\(describe(figures))")]
    let steps =
      figures.backwards == 0
      ? "no step back" : "\(figures.backwards) steps back, the worst by \(figures.worst) ns"
    lines.append(
      line(
        "readings", "\(millions(figures.reads)) on \(count(figures.cpus, "CPU")): \(steps)"))
    if let rate = figures.rate {
      let predicted = rate.predicted.map { ", predicted \(signed(Int($0.rounded()))) ppb" } ?? ""
      lines.append(
        line(
          "rate",
          "\(signed(rate.measured)) ppb ± \(rate.error) against CLOCK_MONOTONIC_RAW\(predicted)"
            + (figures.bracket.map { "; brackets \($0) ns" } ?? "")))
    }
    if case .observed(let cost) = Rule.named("READ-COST")?.judge(timeline) {
      lines.append(line("cost", cost))
    }
    return lines
  }

  private static func describe(_ figures: InsideFigures) -> String {
    guard let page = figures.record else { return "" }
    let stable = page.flags.contains(.tscStable) ? "TSC stable" : "TSC not stable"
    let kHz = page.scale.tscKHz.map { ", TSC of \($0) kHz" } ?? ""
    let updates =
      figures.updates == 0 ? "no update" : count(Int(clamping: figures.updates), "update")
    let stops = figures.stops == 0 ? "" : ", \(figures.stops) after a stop of the VM"
    return
      ": version \(page.version), \(stable)\(kHz); \(updates) in \(seconds(figures.span))\(stops)"
  }

  /// Why there is no record, what would help, and what is left.
  private static func withoutRecord(_ view: GuestView) -> [String] {
    let facts = view.facts
    var lines: [String] = []
    if let absence = view.absence {
      lines += [line("no record", absence.reason), line("remedy", absence.remedy)]
    }
    lines.append(
      line(
        "clocksource",
        "\(facts.clocksource ?? "unknown"), of \(facts.availableClocksources.joined(separator: ", "))"
      ))
    if facts.base != nil {
      lines.append(line("CPUID", "KVM, features 0x\(String(facts.features, radix: 16))"))
    }
    let tsc = TSCFigures.measure(on: view.cpus, nanoseconds: 1_000_000_000)
    let steps =
      tsc.backwards == 0
      ? "no step back" : "\(tsc.backwards) steps back, the worst by \(tsc.worst) cycles"
    lines.append(
      line(
        "TSC",
        "\(thousandths(tsc.hertz / 1e6)) MHz ± \(Int(tsc.error.rounded(.up))) Hz against CLOCK_MONOTONIC_RAW; "
          + "\(millions(tsc.reads)) readings on \(count(tsc.cpus, "CPU")), \(steps)"))
    return lines
  }

  private static func line(_ name: String, _ text: String) -> String {
    name + String(repeating: " ", count: max(1, 14 - name.count)) + text
  }

  static func count(_ number: Int, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
  }

  private static func signed(_ number: Int) -> String { number > 0 ? "+\(number)" : "\(number)" }

  /// "12.3 million".
  private static func millions(_ number: UInt64) -> String {
    guard number >= 1_000_000 else { return "\(number)" }
    let tenths = number / 100_000
    return "\(tenths / 10).\(tenths % 10) million"
  }

  private static func thousandths(_ value: Double) -> String {
    guard value.isFinite, value.magnitude < 1e12 else { return "?" }
    let whole = Int((value * 1000).rounded())
    let rest = String(whole % 1000)
    return "\(whole / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest)"
  }

  /// "10.0 s".
  static func seconds(_ nanoseconds: UInt64) -> String {
    let tenths = (nanoseconds + 50_000_000) / 100_000_000
    return "\(tenths / 10).\(tenths % 10) s"
  }

  /// "3.043 s", "87.1 ms", "12.4 us", "13 ns".
  static func time(_ nanoseconds: UInt64) -> String {
    let units: [(size: UInt64, name: String)] = [
      (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"),
    ]
    guard let unit = units.first(where: { nanoseconds >= $0.size }) else {
      return "\(nanoseconds) ns"
    }
    let rest = String(nanoseconds % unit.size / (unit.size / 1000))
    return
      "\(nanoseconds / unit.size).\(String(repeating: "0", count: 3 - rest.count))\(rest) \(unit.name)"
  }
}
