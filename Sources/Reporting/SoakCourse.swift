internal import ABIChecker

/// How a soak's drift went, in room that does not grow with its length.
public struct SoakCourse: Hashable, Sendable, Codable {
  /// Some rounds in a row, by the worst of them.
  struct Point: Hashable, Sendable, Codable {
    /// Nanoseconds since the soak began, at the end of the last of these rounds.
    var elapsed: UInt64
    /// The clock's advance less the middle of what was predicted, and half the width of that, in nanoseconds.
    var residual: Int64
    var uncertainty: Int64
    var rounds: Int

    /// By how much it is further off than was predicted; below 0 where it is not.
    var excess: Int128 { Int128(residual.magnitude) - Int128(uncertainty) }

    func joined(_ next: Point) -> Point {
      var worst = next.excess > excess ? next : self
      worst.elapsed = next.elapsed
      worst.rounds = rounds &+ next.rounds
      return worst
    }
  }

  private(set) var points: [Point] = []
  /// The newest advance that is in.
  private var newest: SoakStatistics.Drift?

  static let most = 240

  /// Adds what a round saw; nothing where it measured none.
  mutating func add(_ drift: SoakStatistics.Drift, at elapsed: UInt64) {
    guard drift != newest else { return }
    newest = drift
    let point = Point(
      elapsed: elapsed, residual: drift.residual, uncertainty: drift.uncertainty, rounds: 1)
    if let last = points.last, last.rounds < points[0].rounds {
      points[points.count - 1] = last.joined(point)
    } else {
      points.append(point)
    }
    guard points.count > Self.most else { return }
    points = stride(from: 0, to: points.count, by: 2).map { place in
      place + 1 < points.count ? points[place].joined(points[place + 1]) : points[place]
    }
  }

  /// Checks one that was read from a file.
  var isSound: Bool {
    points.count <= Self.most && points.allSatisfy { $0.rounds > 0 && $0.uncertainty >= 0 }
  }
}
