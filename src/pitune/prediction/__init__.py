"""Which tasks help which: Fisher embeddings, their similarity, the graph, and retrieval."""

from pitune.prediction.embedding import EMBEDDED as EMBEDDED
from pitune.prediction.embedding import Embedding as Embedding
from pitune.prediction.embedding import embed as embed
from pitune.prediction.embedding import embed_tasks as embed_tasks
from pitune.prediction.embedding import embedding as embedding
from pitune.prediction.fisher import expert_fisher as expert_fisher
from pitune.prediction.fisher import probe_fisher as probe_fisher
from pitune.prediction.formulas import feature_similarity as feature_similarity
from pitune.prediction.formulas import h_score as h_score
from pitune.prediction.formulas import label_similarity as label_similarity
from pitune.prediction.formulas import leep as leep
from pitune.prediction.formulas import logme as logme
from pitune.prediction.graph import TaskGraph as TaskGraph
from pitune.prediction.graph import build_graph as build_graph
from pitune.prediction.graph import graph_correlation as graph_correlation
from pitune.prediction.groups import Grouping as Grouping
from pitune.prediction.groups import group_tasks as group_tasks
from pitune.prediction.neighbours import Neighbours as Neighbours
from pitune.prediction.neighbours import neighbours as neighbours
from pitune.prediction.scores import SCORES as SCORES
from pitune.prediction.scores import Score as Score
from pitune.prediction.similarity import fisher_similarities as fisher_similarities
from pitune.prediction.similarity import fisher_similarity as fisher_similarity
from pitune.prediction.similarity import task2vec_distance as task2vec_distance
from pitune.prediction.target import Target as Target
from pitune.prediction.target import whole as whole
