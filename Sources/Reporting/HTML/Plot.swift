/// A range of numbers laid out on a stretch of the screen, with round numbers to mark it.
struct Axis {
  var lower: Double
  var upper: Double
  /// Where the ends are, in units of the drawing.
  var start: Double
  var end: Double

  /// - Parameter least: the range that is shown where all values are alike.
  init(_ values: [Double], from start: Double, to end: Double, least: Double) {
    var lower = values.min() ?? 0
    var upper = values.max() ?? 0
    if upper - lower < least {
      let middle = (lower + upper) / 2
      (lower, upper) = (middle - least / 2, middle + least / 2)
    }
    let room = (upper - lower) * 0.06
    self.lower = lower - room
    self.upper = upper + room
    self.start = start
    self.end = end
  }

  func place(_ value: Double) -> Double {
    start + (value - lower) / (upper - lower) * (end - start)
  }

  /// Round numbers in the range, about `count` of them.
  func ticks(_ count: Int) -> [Double] {
    let rough = (upper - lower) / Double(max(1, count))
    var size = 1.0
    while size * 10 <= rough { size *= 10 }
    while size > rough { size /= 10 }
    let step = [1, 2, 5, 10].map { $0 * size }.first { $0 >= rough * 0.75 } ?? size * 10
    var ticks: [Double] = []
    var tick = (lower / step).rounded(.up) * step
    while tick <= upper, ticks.count < 50 {
      ticks.append(tick == 0 ? 0 : tick)
      tick += step
    }
    return ticks
  }
}

/// A unit of time for the numbers of one axis.
struct TimeUnit {
  var name: String
  var size: Double

  /// The one that keeps numbers up to `largest` nanoseconds short.
  init(for largest: Double) {
    let units: [(String, Double)] = [
      ("days", 8.64e13), ("h", 3.6e12), ("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1),
    ]
    let unit = units.first { largest >= $0.1 } ?? ("ns", 1)
    (name, size) = unit
  }

  /// A number of nanoseconds without the unit's name.
  func text(_ nanoseconds: Double) -> String { SVG.number(nanoseconds / size) }

  /// "12.3 µs".
  static func text(_ nanoseconds: Double) -> String {
    let unit = TimeUnit(for: abs(nanoseconds))
    return "\(unit.text(nanoseconds)) \(unit.name)"
  }
}

/// Pieces of a drawing.
enum SVG {
  /// At most three digits after the point, and none that say nothing.
  static func number(_ value: Double) -> String {
    guard value.isFinite, abs(value) < 1e15 else { return "\(value)" }
    let digits = abs(value) >= 100 ? 1.0 : abs(value) >= 10 ? 10.0 : 1000.0
    let scaled = Int((abs(value) * digits).rounded())
    let scale = Int(digits)
    var fraction = "\(scaled % scale + scale)".dropFirst()
    while fraction.last == "0" { fraction.removeLast() }
    let whole = "\(scaled / scale)" + (fraction.isEmpty ? "" : ".\(fraction)")
    return value < 0 && whole != "0" ? "−\(whole)" : whole
  }

  /// A coordinate.
  static func at(_ value: Double) -> String {
    guard value.isFinite else { return "0" }
    let tenths = Int((min(max(value, -1e6), 1e6) * 10).rounded())
    let sign = tenths < 0 ? "-" : ""
    let rest = tenths.magnitude
    return rest % 10 == 0 ? "\(sign)\(rest / 10)" : "\(sign)\(rest / 10).\(rest % 10)"
  }

  static func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ kind: String) -> HTML {
    "<line class=\"\(kind)\" x1=\"\(at(x1))\" y1=\"\(at(y1))\" x2=\"\(at(x2))\" y2=\"\(at(y2))\"/>"
  }

  static func text(_ x: Double, _ y: Double, _ text: String, _ kind: String) -> HTML {
    "<text class=\"\(kind)\" x=\"\(at(x))\" y=\"\(at(y))\">\(text)</text>"
  }

  /// A dot that says what it stands for when it is pointed at.
  static func dot(_ x: Double, _ y: Double, _ kind: String, _ title: String, r: Double = 2.6)
    -> HTML
  {
    "<circle class=\"\(kind)\" cx=\"\(at(x))\" cy=\"\(at(y))\" r=\"\(at(r))\">"
      + "<title>\(title)</title></circle>"
  }

  static func box(
    _ x: Double, _ y: Double, _ width: Double, _ height: Double, _ kind: String, title: String = ""
  ) -> HTML {
    let opening: HTML =
      "<rect class=\"\(kind)\" x=\"\(at(x))\" y=\"\(at(y))\" "
      + "width=\"\(at(max(0.8, width)))\" height=\"\(at(height))\""
    return title.isEmpty
      ? "\(opening)/>" : "\(opening)><title>\(title)</title></rect>"
  }

  static func path(_ points: [(Double, Double)], _ kind: String) -> HTML {
    let steps = points.enumerated().map { index, point in
      "\(index == 0 ? "M" : "L")\(at(point.0)) \(at(point.1))"
    }
    return "<path class=\"\(kind)\" d=\"\(steps.joined())\"/>"
  }

  /// - Parameter label: what the drawing shows, for those who can't see it.
  static func drawing(_ width: Double, _ height: Double, label: String, _ parts: [HTML]) -> HTML {
    "<svg viewBox=\"0 0 \(at(width)) \(at(height))\" role=\"img\" "
      + "aria-label=\"\(label)\">\n\(parts.joined(separator: "\n"))\n</svg>"
  }
}
