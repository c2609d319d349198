#include <algorithm>
#include <cstdio>

#include "penstock/replay/report.h"

namespace penstock::replay {
namespace {

constexpr int bar_height = 16, row_height = 22, label_width = 130, bar_width = 420, value_width = 110, top = 46;
constexpr int heading_height = 34;

struct Panel {
  const char* heading;
  Figure figure;
  double scale;
  int decimals;
  const char* color;
};
constexpr Panel panels[] = {
    {"time to first token, mean (s)", Figure::ttft_mean, 1, 2, "#2f6f9f"},
    {"time to first token, p90 (s)", Figure::ttft_p90, 1, 2, "#2f6f9f"},
    {"gap between tokens, p90 (ms)", Figure::itl_p90, 1000, 1, "#8a5a9f"},
    {"within the SLO (%)", Figure::in_slo, 100, 1, "#3f8f5f"},
};

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

template <typename... Values>
void print(std::string& out, const char* format, Values... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  out += text;
}

void draw_panel(std::string& out, std::span<const Summary> summaries, const Panel& panel, int y) {
  double most = 0;
  for (const Summary& summary : summaries) {
    most = std::max(most, summary[panel.figure].mean + summary[panel.figure].half_width);
  }
  print(out, "<text x='%d' y='%d' font-weight='bold'>%s</text>\n", label_width, y + 20, panel.heading);
  y += heading_height;
  for (const Summary& summary : summaries) {
    const Estimate estimate = summary[panel.figure];
    const double unit = most > 0 ? bar_width / most : 0;
    print(out, "<text x='%d' y='%d' text-anchor='end'>%.40s</text>\n", label_width - 8, y + 13,
          escape(summary.policy.substr(summary.policy.rfind('/') + 1)).c_str());  // of a file the name alone
    print(out, "<rect x='%d' y='%d' width='%.1f' height='%d' fill='%s'/>\n", label_width, y, estimate.mean * unit,
          bar_height, panel.color);
    const double low = std::max(0.0, estimate.mean - estimate.half_width), high = estimate.mean + estimate.half_width;
    print(out, "<line x1='%.1f' y1='%d' x2='%.1f' y2='%d' stroke='#222'/>\n", label_width + low * unit,
          y + bar_height / 2, label_width + high * unit, y + bar_height / 2);
    print(out, "<text x='%.1f' y='%d'>%.*f</text>\n", label_width + high * unit + 6, y + 13, panel.decimals,
          estimate.mean * panel.scale);
    y += row_height;
  }
}

}  // namespace

std::string draw(std::span<const Summary> summaries, std::string_view title) {
  const int panel_height = heading_height + row_height * static_cast<int>(summaries.size()) + 10;
  const int width = label_width + bar_width + value_width;
  const int height = top + panel_height * static_cast<int>(std::size(panels));
  std::string out;
  print(out,
        "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' font-family='sans-serif' font-size='12'>\n",
        width, height);
  print(out, "<rect width='%d' height='%d' fill='white'/>\n", width, height);
  out += "<text x='12' y='24' font-size='14'>" + escape(title) + "</text>\n";
  int y = top;
  for (const Panel& panel : panels) {
    draw_panel(out, summaries, panel, y);
    y += panel_height;
  }
  out += "</svg>\n";
  return out;
}

}  // namespace penstock::replay
