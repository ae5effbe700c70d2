/// How often values of each size were seen, in room that does not grow: one count for each power of two.
public struct Histogram: Hashable, Sendable, Codable {
  /// `counts[n]` values had n binary digits: 0 alone, 1, 2 to 3, 4 to 7, …; as long as the largest value needs.
  public private(set) var counts: [UInt64] = []
  public private(set) var sum: UInt64 = 0
  /// 0 where there is none.
  public private(set) var largest: UInt64 = 0

  public init() {}

  public mutating func add(_ value: UInt64) {
    let digits = UInt64.bitWidth - value.leadingZeroBitCount
    while counts.count <= digits { counts.append(0) }
    counts[digits] = counts[digits].saturating(adding: 1)
    sum = sum.saturating(adding: value)
    largest = max(largest, value)
  }

  public var count: UInt64 { counts.reduce(0) { $0.saturating(adding: $1) } }

  /// For each place in `counts`, the largest value that belongs there, and how many values are at most that.
  public var cumulative: [(upTo: UInt64, count: UInt64)] {
    var total: UInt64 = 0
    return counts.enumerated().map { digits, count in
      total = total.saturating(adding: count)
      return (digits >= UInt64.bitWidth ? .max : (1 << UInt64(digits)) - 1, total)
    }
  }

  /// Checks a histogram that was read from a file.
  var isSound: Bool { counts.count <= UInt64.bitWidth + 1 }
}

extension UInt64 {
  func saturating(adding other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
