"""Ignite handlers: checkpoints, result tables, figures, reports."""

from common.handlers.checkpoint import BestWeights, EarlyStop, ResumableTraining, WeightAverage
from common.handlers.classification import (
    ClassificationFigures,
    ClassificationReport,
    ExamplePage,
    PatientTable,
    ProbabilityWriter,
)
from common.handlers.disc_cup import DiscCupReport
from common.handlers.evaluation import SegmentationReport
from common.handlers.figures import FigurePanels, LearningCurves, NormalizedPhoto
from common.handlers.layers import LayerReport, LayerWriter
from common.handlers.lesions import LesionReport
from common.handlers.results import ResultWriter

__all__ = [
    "BestWeights",
    "ClassificationFigures",
    "ClassificationReport",
    "DiscCupReport",
    "EarlyStop",
    "ExamplePage",
    "FigurePanels",
    "LayerReport",
    "LayerWriter",
    "LearningCurves",
    "LesionReport",
    "NormalizedPhoto",
    "PatientTable",
    "ProbabilityWriter",
    "ResultWriter",
    "ResumableTraining",
    "SegmentationReport",
    "WeightAverage",
]
